"""Writer of synthetic level-2 files, frame by frame, and of their association.

A data model of a single frame is saved for its headers, INT_TIMES and ASDF extension. The file is
made of those with space for all frames, and frames are written to their offsets as they are made,
so that an exposure of any length takes the memory of a few frames.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from tso_level3.simulate import header
from tso_level3.simulate.header import root_name
from tso_level3.simulate.scene import Scene, segment_edges
from tso_level3.simulate.settings import Simulation
from tso_level3.utils.atomic import replacing

if TYPE_CHECKING:
    from tso_level3.simulate import SimulatedFrames

__all__ = ["SegmentWriter", "root_name", "segment_writers", "write_association"]

log = logging.getLogger(__name__)

_RECORD = 2880
_PLANES = {
    "SCI": "data",
    "ERR": "err",
    "DQ": "dq",
    "VAR_POISSON": "var_poisson",
    "VAR_RNOISE": "var_rnoise",
    "VAR_FLAT": "var_flat",
}


@contextmanager
def segment_writers(scene: Scene, folder: Path) -> Iterator[list[SegmentWriter]]:
    """Open the files of an exposure, which get their names at the end; none is left on an error.

    Parameters
    ----------
    scene : Scene
        The exposure.
    folder : Path
        Folder of the files.

    Yields
    ------
    list of SegmentWriter
        One per segment.
    """
    with ExitStack() as stack:
        yield [
            stack.enter_context(_writer(scene, segment, folder))
            for segment in range(1, scene.simulation.segments + 1)
        ]


@contextmanager
def _writer(scene: Scene, segment: int, folder: Path) -> Iterator[SegmentWriter]:
    path = folder / header.file_name(scene.simulation, segment)
    with replacing(path) as part:
        with FileIO(part, "w") as file:
            yield SegmentWriter(scene, segment, path, file)
        _renew_hash(part)


class SegmentWriter:
    """Writer of the file of a segment.

    Parameters
    ----------
    scene : Scene
        The exposure.
    segment : int
        Segment, from 1.
    path : Path
        Final name of the file.
    file : FileIO
        The file, empty.
    """

    def __init__(self, scene: Scene, segment: int, path: Path, file: FileIO) -> None:
        sim = scene.simulation
        self.start, self.stop = (int(v) for v in segment_edges(sim)[segment - 1 : segment + 1])
        self.path, self._file = path, file
        self._frame_bytes = 4 * sim.shape[0] * sim.shape[1]
        self._offsets: dict[str, int] = {}
        with tempfile.TemporaryDirectory() as scratch:
            skeleton = Path(scratch) / path.name
            _write_skeleton(scene, segment, skeleton)
            self._lay_out(skeleton, sim.shape)

    def _lay_out(self, skeleton: Path, shape: tuple[int, int]) -> None:
        """Write everything but the frames."""
        n = self.stop - self.start
        raw = skeleton.read_bytes()
        with fits.open(skeleton, do_not_scale_image_data=True, uint=False) as hdus:
            for index, hdu in enumerate(hdus):
                place = hdus.fileinfo(index)
                if hdu.name in _PLANES:
                    head = hdu.header.copy()
                    head["NAXIS3"] = n
                    self._file.write(head.tostring().encode("ascii"))
                    self._offsets[_PLANES[hdu.name]] = self._file.tell()
                    self._file.seek(_padded(n * self._frame_bytes), 1)
                elif hdu.name == "ASDF":
                    self._file.write(_asdf_hdu(hdu, shape, n))
                else:
                    self._file.write(raw[place["hdrLoc"] : place["datLoc"] + place["datSpan"]])
        missing = set(_PLANES.values()) - set(self._offsets)
        if missing:
            raise RuntimeError(f"{self.path.name}: the data model wrote no {sorted(missing)}")
        self._file.truncate(self._file.tell())

    def write(self, frames: SimulatedFrames) -> None:
        """Write those of the frames that belong to this segment."""
        low, high = max(frames.start, self.start), min(frames.stop, self.stop)
        if low >= high:
            return
        rows = slice(low - frames.start, high - frames.start)
        for name, offset in self._offsets.items():
            values = getattr(frames, name)[rows]
            if name == "dq":
                # FITS has no unsigned integers: 2**31 is subtracted.
                stored = (values ^ np.uint32(1 << 31)).astype(">u4")
            else:
                stored = values.astype(">f4")
            self._file.seek(offset + (low - self.start) * self._frame_bytes)
            view = memoryview(stored).cast("B")
            while view:
                view = view[self._file.write(view) :]


def _padded(size: int) -> int:
    return -(-size // _RECORD) * _RECORD


def _write_skeleton(scene: Scene, segment: int, path: Path) -> None:
    """Save a data model of one frame."""
    from stdatamodels.jwst import datamodels

    sim = scene.simulation
    model = datamodels.CubeModel()
    for name in _PLANES.values():
        setattr(model, name, np.zeros((1, *sim.shape), dtype="u4" if name == "dq" else "f4"))
    model.int_times = header.int_times(scene, segment, model.get_dtype("int_times"))
    model.update({"meta": header.metadata(scene, segment)})
    model.meta.wcs = header.world_coordinates(sim)
    model.save(path)
    model.close()


def _asdf_hdu(hdu: Any, shape: tuple[int, int], n: int) -> bytes:
    """Return the ASDF extension with the number of frames corrected."""
    content = bytes(hdu.data.tobytes())
    end = content.index(b"\n...\n")
    old = b"shape: [1, %d, %d]" % shape
    text = content[:end].replace(old, b"shape: [%d, %d, %d]" % (n, *shape))
    # Binary blocks follow; their index, which is optional, would be wrong.
    rest = content[end:]
    index = rest.rfind(b"#ASDF BLOCK INDEX")
    if index >= 0:
        rest = rest[:index]
    data = np.frombuffer(text + rest, dtype=np.uint8)[None, :]
    column = fits.Column(array=data, format=f"{data.size}B", name="ASDF_METADATA")
    fresh = fits.BinTableHDU.from_columns([column], name="ASDF")
    body = text + rest
    return fresh.header.tostring().encode("ascii") + body.ljust(_padded(len(body)), b"\0")


def _renew_hash(path: Path) -> None:
    """Write the digest of the final headers, which tells a reader that ASDF matches them."""
    from stdatamodels.fits_support import FITS_HASH_KEY, fits_hash

    with fits.open(path) as hdus:
        digest = fits_hash(hdus).encode()
        start, span = hdus.fileinfo("ASDF")["datLoc"], hdus.fileinfo("ASDF")["datSpan"]
    with path.open("r+b") as file:
        file.seek(start)
        key = f"{FITS_HASH_KEY}: ".encode()
        place = file.read(span).index(key) + len(key)
        file.seek(start + place)
        file.write(digest)


def write_association(sim: Simulation, segments: tuple[Path, ...], folder: Path) -> Path:
    """Write the tso3 association of an exposure's files.

    Parameters
    ----------
    sim : Simulation
        The settings.
    segments : tuple of Path
        The files, in order of time.
    folder : Path
        Folder of the file.

    Returns
    -------
    Path
        The ``.json`` file.
    """
    observation = f"o{sim.observation:03d}"
    members = [
        {
            "expname": path.name,
            "exptype": "science",
            "exposerr": "null",
            "asn_candidate": f"[('{observation}', 'observation')]",
        }
        for path in segments
    ]
    association = {
        "asn_type": "tso3",
        "asn_rule": "DMS_Level3_TSO",
        "version_id": None,
        "code_version": "simulated",
        "degraded_status": "No known degraded exposures in association.",
        "program": f"{sim.program:05d}",
        "constraints": "No constraints",
        "asn_id": observation,
        "target": sim.target,
        "asn_pool": "simulated_pool",
        "products": [{"name": header.product_name(sim), "members": members}],
    }
    path = folder / f"jw{sim.program:05d}-{observation}_tso3_00001_asn.json"
    path.write_text(json.dumps(association, indent=4) + "\n")
    return path
