"""The page that shows every shipped prompt set: `zeroshot prompts gallery > prompts/README.md`."""

from __future__ import annotations

from zeroshot.prompts import METRICS, PromptSet, available_prompts, load_prompts

_TEMPLATES_SHOWN = 8
_CLASSES_SHOWN = 12

_HEAD = """# The prompt sets

One file a data set: templates, class names in the order of the data set's indices, and where they come from. Use one by
its name,

```python
zeroshot.Classifier(prompts="food101")  # its own classes
zeroshot.Classifier(["pizza", "ramen"], prompts="food101")  # its templates, your labels
```

look at one with `zeroshot prompts show food101`, and check one with `zeroshot prompts lint food101`.

## Your own, in a minute

A list of templates is enough: `prompts=["a photo of a {}.", "a sketch of a(n) {}."]`. `{}` is the label, nothing else
in braces is allowed, and `a(n) {}` becomes "a" or "an" by the sound of the label. As a file, `birds.toml`:

```toml
templates = ["a photo of a {}, a type of bird.", "a close-up photo of a {}."]
classes = ["crane", "kite", ["robin", "redbreast"]]   # a list stands for one class with synonyms
metric = "mean_per_class_recall"                      # optional: what `zeroshot evaluate` shows first

[prompts]                                             # optional: whole prompts of single classes
crane = ["a crane, a tall wading bird with a long neck"]
```

then `prompts="birds.toml"`. A `.txt` file has one template a line; a `.json` file a list of templates, or an object of
label to whole prompts, as descriptions in the manner of CuPL are published. What a set makes of labels can be seen:

```python
zeroshot.load_prompts("birds.toml").expand(["crane", "kite"])
zeroshot.load_prompts("photo").in_context("a type of pet").expand(["boxer"])  # "a photo of a boxer, a type of pet."
```

With pictures at hand, `zeroshot prompts compare photos/ --prompts photo imagenet birds.toml` says which set is better
on labelled ones, and whether there are enough of them to tell; `zeroshot.weighting.weigh_templates` weighs the
templates of a set by unlabelled ones (zero-shot prompt weighting, Allingham et al., 2023).

Names matter more than templates: write what people write under pictures ("annual crop land", not "AnnualCrop"), and say
which one you mean ("construction crane").

## What is shipped

Character for character what the sources publish, so that published numbers can be reached: with the spaces at the ends
of some names and templates of `imagenet_ar`, and the two in "head of a  crocodile" of `caltech101`.

"""


def gallery() -> str:
    """Return the page as Markdown text."""
    sets = [load_prompts(name) for name in available_prompts()]
    table = ["| set | data | templates | classes |", "|---|---|---:|---:|"]
    table += [f"| [{s.name}](#{s.name}) | {s.title} | {len(s.templates)} | {len(s.classes) or ''} |" for s in sets]
    return _HEAD + "\n".join(table) + "\n\n" + "\n".join(_section(s) for s in sets)


def _section(prompts: PromptSet) -> str:
    first = prompts.classes[:2] or ("cat", "dog")
    labels = f"[{', '.join(map(repr, first))}]"
    lines = [
        f"### {prompts.name}",
        "",
        f"{prompts.title}. Source: {prompts.source}. Licence: {prompts.license}.",
        "",
        f"`zeroshot.Classifier({'' if prompts.classes else labels + ', '}prompts={prompts.name!r})`",
        "",
        *(f"- {_code(template)}" for template in prompts.templates[:_TEMPLATES_SHOWN]),
    ]
    if len(prompts.templates) > _TEMPLATES_SHOWN:
        lines.append(f"- and {len(prompts.templates) - _TEMPLATES_SHOWN} more")
    if prompts.classes:
        names = ", ".join(" / ".join(words) for words in prompts.labels.synonyms[:_CLASSES_SHOWN])
        more = len(prompts.classes) - _CLASSES_SHOWN
        lines += ["", f"Classes: {names}{f' and {more} more' if more > 0 else ''}.", "", f"Order: {prompts.order}."]
    if prompts.data:
        lines += ["", f"Images: {prompts.data}."]
    if prompts.metric:
        lines += ["", f"Measured by {METRICS[prompts.metric]}."]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"``{text}``" if "`" in text else f"`{text}`"
