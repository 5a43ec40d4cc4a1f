"""Cut a few real rows around an episode boundary out of a recorded dataset, for the tests to read.

    python -m tests.make_data --dataset FOLDER_OF_PARQUET_FILES

The rows keep the public schema and all of its traps: images stored transposed, actions one row ahead of the frames, and
a first row that still shows the game before. Images are compressed again, losslessly, so that the sample stays small.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tyro
from PIL import Image

LIMIT = 2_000_000
"""Bytes that the sample may take in the repository."""


@dataclass
class Args:
    dataset: Path
    """Folder of parquet files in the public schema, label columns included."""
    out: Path = Path(__file__).parent / "data"
    """Folder that receives `rows.parquet`."""
    episode: int = 2007
    """The episode whose end is kept, with the start of the one after it."""
    before: int = 115
    """Rows kept up to the boundary."""
    after: int = 115
    """Rows kept from the boundary on."""


def main(args: Args) -> Path:
    """Write the sample and return its path; ValueError when the boundary is not there or the file grows too large."""
    source = pq.ParquetDataset(sorted(args.dataset.glob("*.parquet")))
    episodes = source.read(columns=["episode"])["episode"].to_numpy()
    ends = np.flatnonzero((episodes[:-1] == args.episode) & (episodes[1:] != args.episode)) + 1
    if len(ends) != 1:
        raise ValueError(f"{args.dataset} has {len(ends)} ends of episode {args.episode}; expected one.")
    start, stop = ends[0] - args.before, ends[0] + args.after
    if start < 0 or set(episodes[start:stop].tolist()) != {args.episode, episodes[ends[0]]}:
        raise ValueError(f"{args.before} rows before and {args.after} after row {ends[0]} are not two episodes' rows.")

    table = source.read(use_pandas_metadata=False).slice(start, args.before + args.after).combine_chunks()
    images = [
        {"bytes": _smaller(data.as_py()), "path": None} for data in pc.struct_field(table["frame_image"], "bytes")
    ]
    place = table.schema.get_field_index("frame_image")
    field = table.schema.field(place)
    table = table.set_column(place, field, pa.array(images, field.type))

    path = args.out / "rows.parquet"
    args.out.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    if path.stat().st_size > LIMIT:
        raise ValueError(f"{path} takes {path.stat().st_size:,} bytes; expected at most {LIMIT:,}. Keep fewer rows.")
    print(f"{path}: {len(table)} rows, {path.stat().st_size:,} bytes")
    return path


def _smaller(data: bytes) -> bytes:
    """The same picture as a PNG compressed as far as it goes."""
    packed = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(packed, "PNG", optimize=True)
    return packed.getvalue()


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
