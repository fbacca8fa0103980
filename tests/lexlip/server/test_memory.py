"""Memory that a server keeps of pictures that it has decoded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
DECODE = """
import sys, threading
from lexlip.data.images import read_image
from lexlip.server.memory import return_blocks

def kept():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))

if sys.argv[2] == "yes" and not return_blocks():
    sys.exit(3)
read_image(sys.argv[1], at_least=64)
before, barrier = kept(), threading.Barrier(5)

def work():
    read_image(sys.argv[1], at_least=64)
    barrier.wait()
    barrier.wait()

for _ in range(4):
    threading.Thread(target=work).start()
barrier.wait()
print(kept() - before)
barrier.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_threads_keep_no_picture(tmp_path):
    Image.new("LA", (3500, 3500)).save(tmp_path / "a.png")

    def kept(wanted):
        command = [sys.executable, "-c", DECODE, str(tmp_path / "a.png"), wanted]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 3:
            pytest.skip("another C library")
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert kept("yes") < 40 < kept("no")  # MB; a picture is 98
