"""The C library keeps what a network frees."""

import platform
import subprocess
import sys

import pytest

_PAGES_OF_A_NETWORK = """
import resource, torch
from pipelines.allocator import keep_freed_memory

keep_freed_memory()
network = torch.nn.Sequential(*[torch.nn.Conv2d(8, 8, 3, padding=1) for _ in range(4)])
images = torch.rand(8, 8, 224, 224)  # 3,136 pages, and so has each feature map
with torch.inference_mode():
    for number in range(20):
        if number == 10:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        network(images)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_feature_maps_take_the_pages_of_those_before_them():
    command = [sys.executable, "-c", _PAGES_OF_A_NETWORK]
    pages = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert pages < 3136  # in ten passes; without it nearly always 250,000


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_left_as_they_are(monkeypatch, system):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("ctypes.CDLL", None)  # nothing is looked for

    from pipelines.allocator import keep_freed_memory

    keep_freed_memory()
