"""Make tiny tokenizers of the kinds that published checkpoints bring, with the files and settings that theirs have.

    python -m venv makers && . makers/bin/activate
    pip install tokenizers==0.23.3 sentencepiece==0.2.3 protobuf
    python tests/golden/make_tokenizers.py

Nothing of `zeroshot` is imported, and nothing is downloaded. Two runs give the same bytes. The folders in `tokenizers`:

hf_siglip       ``spiece.model``, as google/siglip-* have it
hf_t5           the same vocabulary as ``tokenizer.json``, as timm/ViT-*-SigLIP have it
hf_gemma        byte-pair encoding with single bytes for what it does not know, as google/siglip2-* have it
hf_bert         word pieces, as bert-base-uncased has them
hf_roberta      byte-level byte-pair encoding, as roberta-base has it
hf_xlm_roberta  a vocabulary of SentencePiece's behind four special tokens, as xlm-roberta and xlm-v have it
hf_nllb         byte-pair encoding with codes of languages behind it, as facebook/nllb-200-* have it
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
if not __package__:  # run as a script: the siblings are imported as the tests import them
    sys.path.insert(0, str(FOLDER.parent))

from golden.strings import strings  # noqa: E402

COUNT, LAST_CHARACTER = 3000, "\u017f"  # more than Latin would be all single characters in so small a vocabulary
VOCABULARY = 300
LANGUAGES = ("eng_Latn", "fra_Latn", "zho_Hans")
# What NFKC does, in little: SentencePiece's own table of it has 240 kB.
FOLDED = {
    **{chr(0xFF21 + i): chr(ord("A") + i) for i in range(26)},
    **{chr(0xFF41 + i): chr(ord("a") + i) for i in range(26)},
    **{"ﬁ": "fi", "²": "2", "½": "1/2", "…": "...", "\u0301": "", "e\u0301": "é"},
    **dict.fromkeys("\t\n\r\xa0\u2003\u3000", " "),
}


def main() -> None:
    """Write all folders."""
    texts = [text for text in strings(COUNT) if text.isprintable() and text.strip() and max(text) <= LAST_CHARACTER]
    model = _train_sentencepiece(texts)
    makers: dict[str, Any] = {
        "hf_siglip": (_siglip(), model),
        "hf_t5": (_t5(), _as_t5(model)),
        "hf_gemma": (_gemma(), _as_gemma(texts)),
        "hf_bert": (_bert(), _as_bert(texts)),
        "hf_roberta": (_roberta(), _as_roberta(texts)),
        "hf_xlm_roberta": (_xlm_roberta(), _as_xlm_roberta(model)),
        "hf_nllb": (_nllb(), _as_nllb(texts, model)),
    }
    for name, (settings, content) in makers.items():
        folder = FOLDER / "tokenizers" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="ascii")
        if isinstance(content, bytes):
            (folder / "spiece.model").write_bytes(content)
        else:
            (folder / "tokenizer.json").write_text(content.to_str() + "\n", encoding="utf-8")


# -------------------------------------------------------------------------------------- settings, as they are published


def _siglip() -> dict[str, Any]:
    tokens = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    return {
        **{"tokenizer_class": "SiglipTokenizer", "processor_class": "SiglipProcessor", **tokens},
        **{"do_lower_case": True, "model_max_length": 64, "model_input_names": ["input_ids"], "sp_model_kwargs": {}},
    }


def _t5() -> dict[str, Any]:
    tokens = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    return {
        "tokenizer_class": "T5Tokenizer",
        **tokens,
        "extra_ids": 0,
        "legacy": False,
        "additional_special_tokens": [],
    }


def _gemma() -> dict[str, Any]:
    tokens = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return {
        **{"tokenizer_class": "GemmaTokenizer", "processor_class": "SiglipProcessor", **tokens},
        **{"add_bos_token": False, "add_eos_token": True, "padding_side": "right", "do_lower_case": True},
        **{"model_input_names": ["input_ids"], "model_max_length": 64},
    }


def _bert() -> dict[str, Any]:
    tokens = {"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]"}
    return {"tokenizer_class": "BertTokenizer", **tokens, "unk_token": "[UNK]", "do_lower_case": True}


def _roberta() -> dict[str, Any]:
    return {"tokenizer_class": "RobertaTokenizer", **_FAIRSEQ, "add_prefix_space": False}


def _xlm_roberta() -> dict[str, Any]:
    return {"tokenizer_class": "XLMRobertaTokenizer", **_FAIRSEQ}


def _nllb() -> dict[str, Any]:
    return {
        **{"tokenizer_class": "NllbTokenizer", **_FAIRSEQ},
        **{"additional_special_tokens": list(LANGUAGES), "src_lang": None, "tgt_lang": None},
    }


_FAIRSEQ = {
    **{"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"},
    **{"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>", "model_max_length": 512},
}


# ------------------------------------------------------------------------------------------------------- vocabularies


def _train_sentencepiece(texts: Iterable[str]) -> bytes:
    """Return a model with the special tokens and the settings of T5's, which SigLIP was trained with."""
    from sentencepiece import SentencePieceTrainer, sentencepiece_model_pb2

    writer = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="ascii") as rules:
        for source, target in FOLDED.items():
            rules.write("\t".join(" ".join(f"{ord(char):X}" for char in text) for text in (source, target)) + "\n")
        rules.flush()
        SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=writer,
            model_type="unigram",
            vocab_size=VOCABULARY,
            character_coverage=0.98,
            normalization_rule_tsv=rules.name,
            **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
            num_threads=1,
            minloglevel=2,
        )
    proto = sentencepiece_model_pb2.ModelProto.FromString(writer.getvalue())
    proto.normalizer_spec.ClearField("normalization_rule_tsv")  # a path of this machine
    return bytes(proto.SerializeToString())


def _read_sentencepiece(model: bytes) -> tuple[list[tuple[str, float]], bytes]:
    """Return the pieces with their scores, and the compiled table of characters that are folded."""
    from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

    processor = SentencePieceProcessor(model_proto=model)
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    return pieces, proto.normalizer_spec.precompiled_charsmap


def _as_t5(model: bytes) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces, folded = _read_sentencepiece(model)
    tokenizer: Any = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(folded),
            normalizers.Strip(left=False, right=True),
            normalizers.Replace(Regex(" {2,}"), "▁"),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ("<pad>", "</s>", "<unk>")])
    return tokenizer


def _as_xlm_roberta(model: bytes) -> Any:
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces, folded = _read_sentencepiece(model)
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [*((token, 0.0) for token in specials), *pieces[3:], ("<mask>", 0.0)]
    tokenizer: Any = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Precompiled(folded)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in specials])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    return tokenizer


def _as_nllb(texts: Iterable[str], model: bytes) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer: Any = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=False))
    _, folded = _read_sentencepiece(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(folded), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in LANGUAGES])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=True)])
    # Of 2022: the code of the language at the end. transformers has put it in front since 2023, whatever the file says.
    code = LANGUAGES[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A </s> {code}", special_tokens=[("</s>", 2), (code, tokenizer.token_to_id(code))]
    )
    return tokenizer


def _as_gemma(texts: Iterable[str]) -> Any:
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokenizer: Any = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokens = [*specials, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=2 * VOCABULARY, special_tokens=tokens, max_token_length=8, show_progress=False
    )
    tokenizer.train_from_iterator((text.lower() for text in texts), trainer)
    # The bytes are no special tokens, only the first in the vocabulary: made anew without them.
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in specials])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return tokenizer


def _as_bert(texts: Iterable[str]) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    normalizer, pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word for text in texts for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))
    )
    # The library's own trainer gives another vocabulary in every run.
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = sorted(set("".join(words)))
    tokens += [*characters, *(f"##{char}" for char in characters)]
    tokens += [word for word, _ in words.most_common(VOCABULARY) if len(word) > 1]
    tokens += [f"##{end}" for end, _ in Counter(word[-2:] for word in words if len(word) > 2).most_common(40)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    tokenizer: Any = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens(tokens[:5])
    return tokenizer


def _as_roberta(texts: Iterable[str]) -> Any:
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=2 * VOCABULARY,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


if __name__ == "__main__":
    main()
