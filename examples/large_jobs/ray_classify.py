"""Classify a bucket of images on a Ray cluster: paths in, a Parquet data set of predictions out.

    pip install 'zeroshot-clip[ray]'
    python examples/large_jobs/ray_classify.py s3://bucket/photos s3://bucket/predictions \
        --labels cat dog car --model ViT-B-32/datacomp_xl_s13b_b90k --workers 8 --gpus-per-worker 1

On a laptop, with the bundled model and one worker:

    python examples/large_jobs/ray_classify.py examples/images /tmp/predictions --labels cat clock rocket --model mini

Reading, decoding and encoding run in the workers. Each of them loads the encoder once; the head is built once, here,
and sent along. A broken image becomes a row with its error. Ray starts a worker that dies anew and gives its batches to
others; rows that were written stay.
"""

from __future__ import annotations

import argparse

import ray

import zeroshot
from zeroshot.engines import BatchClassifier


def main() -> None:
    """Parse the command line and run the job."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", help="folder or bucket of images")
    parser.add_argument("target", help="folder or bucket for the Parquet files")
    parser.add_argument("--labels", nargs="+", required=True)
    parser.add_argument("--prompts", default=None)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--workers", type=int, default=1, help="leave a core for reading, or the job waits for ever")
    parser.add_argument("--gpus-per-worker", type=float, default=0)
    parser.add_argument("--cpus-per-worker", type=float, default=1, help="threads that decode for one worker")
    parser.add_argument("--batch-size", type=int, default=256, help="images that a worker is given at once")
    arguments = parser.parse_args()

    # The head is built on this machine; the fingerprint in it makes sure that the workers load the same weights.
    encoder = zeroshot.load(arguments.model, device="cpu")
    head = zeroshot.build_head(encoder, arguments.labels, prompts=arguments.prompts)

    # Bytes, not decoded arrays: a JPEG is a tenth of its pixels, and the workers decode next to the network.
    images = ray.data.read_binary_files(
        arguments.source, include_paths=True, file_extensions=["jpg", "jpeg", "png", "webp"]
    )
    predictions = images.map_batches(
        BatchClassifier,
        fn_constructor_args=[head],
        fn_constructor_kwargs={"column": "bytes", "workers": max(int(arguments.cpus_per_worker), 1)},
        batch_size=arguments.batch_size,
        concurrency=arguments.workers,
        num_cpus=arguments.cpus_per_worker,
        num_gpus=arguments.gpus_per_worker,
    )
    predictions.write_parquet(arguments.target)


if __name__ == "__main__":
    main()
