"""A disk that is full after every page, and one that cannot be written: a clear error, whole files, and going on.

    python bench/full_disk.py

Each job runs on a disk of its own in memory (tmpfs, in a namespace of this process: Linux, `unshare`), first of one
page of 4 KiB, then of two, and so on, until it has room enough to end. Each time the kernel refuses another write; the
error has to say which file and how much space is left, every file that has its final name has to be whole, and, with
room on the disk, the job goes on and has to leave what an undisturbed one leaves, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from kills import Job, check_whole, jobs, plain  # its neighbour in this folder

from polytask.errors import StorageError
from polytask.training.run_folder import RunFolder

PAGE = 4096
ROOM = "size=64m"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", type=int, default=1, help="pages by which the disk grows")
    parser.add_argument("--jobs", type=int, nargs="*", help="positions of the jobs; all but the long ones if left out")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.inside:  # again, where it may mount
        command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, *sys.argv, "--inside"]
        raise SystemExit(subprocess.run(command).returncode)
    RunFolder.drop_checkpoint = lambda self: None  # type: ignore[method-assign]  # it is compared too
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        given, disk = Path(folder) / "given", Path(folder) / "disk"
        given.mkdir(), disk.mkdir()
        every = jobs(given)
        chosen = [every[i] for i in options.jobs] if options.jobs else [job for job in every if not job.is_long]
        for job in chosen:
            told[job.name] = found = try_all(job, disk, options.step)
            if not options.json:
                print(f"{job.name}: {found['full']} disks too small; the file was {found['files']}")
    if options.json:
        print(json.dumps(told))


def try_all(job: Job, disk: Path, step: int) -> dict:
    """A job on disks of every size, and on one that is read-only."""
    mount(disk, ROOM)
    job.do(disk / "at")
    expected = job.left(disk / "at")
    mount(disk, "remount,ro", fresh=False)
    assert "Read-only file system" in str(refused(job, disk / "other"))
    unmount(disk)
    files: dict[str, int] = {}
    size = step
    while True:
        mount(disk, f"size={size * PAGE}")
        error = refused(job, disk / "at")
        if error is None:
            break
        check_whole(disk)
        text = str(error)
        if "No space left on device" not in text or " MB are free in " not in text or "\n" in text:
            raise SystemExit(f"{job.name}, {size} pages: no clear error: {text}")
        file = text.split(": ")[0].removeprefix("Cannot write ").removeprefix(str(disk / "at"))
        files[file] = files.get(file, 0) + 1
        mount(disk, f"remount,{ROOM}", fresh=False)
        job.do(disk / "at")
        if plain(job.left(disk / "at")) != plain(expected):
            raise SystemExit(f"{job.name}, {size} pages: what it left, gone on with, differs.")
        unmount(disk)
        size += step
    unmount(disk)
    return {"full": sum(files.values()), "files": files}


def refused(job: Job, folder: Path) -> StorageError | None:
    try:
        job.do(folder)
    except StorageError as error:
        return error
    return None


def mount(disk: Path, options: str, *, fresh: bool = True) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)


def unmount(disk: Path) -> None:
    # Lazily: what was read from it may be mapped into memory still.
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


if __name__ == "__main__":
    main()
