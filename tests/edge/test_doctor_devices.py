"""The doctor on nodes below /dev: cameras and the GPU, who may open them, and in a container."""

import shutil
from pathlib import Path

import pytest

from edge.doctor_software import GPU_NODES
from tests.edge.boards.places import gpu, lines, no_gpu, orin_tree, place
from tests.edge.boards.trees import write


@pytest.fixture
def orin(tmp_path):
    return orin_tree(tmp_path)


def test_a_driver_that_cannot_be_asked_is_a_line_with_the_cure_of_its_place(orin):
    def half():
        raise OSError("libcuda.so.1: wrong ELF class")

    line = lines(place(orin, probe=half), "CUDA")["CUDA"]
    assert line.found == "asking the driver: libcuda.so.1: wrong ELF class"
    assert "nvidia-l4t-cuda" in line.cure
    write(orin, {"/.dockerenv": ""})
    assert "--runtime nvidia" in lines(place(orin, probe=no_gpu), "CUDA")["CUDA"].cure


def test_another_gpu_than_the_profiles_is_said(orin):
    line = lines(place(orin, probe=gpu("7.2")), "CUDA")["CUDA"]
    assert (line.state, "jetson-orin-nano has SM 8.7" in line.found) == ("warn", True)


def test_a_camera_this_user_may_not_read_is_missing_with_the_group(orin, monkeypatch):
    monkeypatch.setattr("edge.doctor_system.os.access", lambda path, mode: "video" not in path)
    line = lines(place(orin), "cameras")["cameras"]
    assert (line.state, line.found) == ("missing", "/dev/video0: this user may not read it")
    assert "usermod -aG video" in line.cure
    write(orin, {"/.dockerenv": ""})
    line = lines(place(orin), "cameras")["cameras"]
    assert line.cure == "start the container with --group-add $(stat -c %g /dev/video0)"


@pytest.mark.parametrize(
    ("node", "group"),
    [("/dev/nvmap", "video"), ("/dev/nvhost-gpu", "video"), ("/dev/nvgpu/igpu0/ctrl", "video"),
     ("/dev/dri/renderD128", "render")],
)  # fmt: skip
def test_a_gpu_node_this_user_may_not_open_is_cured_by_its_group(orin, monkeypatch, node, group):
    write(orin, dict.fromkeys(GPU_NODES, ""))
    closed = str(orin / node.lstrip("/"))
    monkeypatch.setattr("edge.doctor_software.os.access", lambda path, mode: path != closed)
    line = lines(place(orin, probe=no_gpu), "CUDA")["CUDA"]
    assert line.cure == f"sudo usermod -aG {group} $USER, then log in again"
    write(orin, {"/run/.containerenv": ""})
    line = lines(place(orin, probe=no_gpu), "CUDA")["CUDA"]
    assert line.cure == f"start the container with --group-add $(stat -c %g {node})"


def test_a_folder_of_nodes_that_nobody_may_write_to_is_no_fault(orin, monkeypatch):
    """/dev/nvgpu is a folder of root's on JetPack 6: only what is in it is opened."""
    write(orin, dict.fromkeys(GPU_NODES, ""))
    monkeypatch.setattr("edge.doctor_software.os.access", lambda path, mode: Path(path).is_file())
    assert "nvidia-l4t-cuda" in lines(place(orin, probe=no_gpu), "CUDA")["CUDA"].cure


def test_metadata_nodes_are_no_cameras_and_a_csi_camera_needs_its_daemon(orin):
    write(orin, {"/dev/video1": "", "/sys/class/video4linux/video1/index": 1})
    assert lines(place(orin), "cameras")["cameras"].found == "/dev/video0 (USB Camera)"
    write(orin, {"/sys/class/video4linux/video0/name": "vi-output, imx219 9-0010"})
    line = lines(place(orin), "cameras")["cameras"]
    assert (line.state, line.cure) == ("warn", "sudo systemctl restart nvargus-daemon")
    (orin / "tmp/argus_socket").mkdir(parents=True)  # Docker's, for want of a socket to mount
    assert lines(place(orin), "cameras")["cameras"].state == "warn"
    write(orin, {"/.dockerenv": ""})
    line = lines(place(orin), "cameras")["cameras"]
    assert line.cure == (
        "on the board: sudo systemctl restart nvargus-daemon; then start the container with "
        "-v /tmp/argus_socket:/tmp/argus_socket"
    )
    (orin / "tmp/argus_socket").rmdir()
    write(orin, {"/tmp/argus_socket": ""})
    assert lines(place(orin), "cameras")["cameras"].state == "ok"
    shutil.rmtree(orin / "dev")
    assert "--device /dev/video0" in lines(place(orin), "cameras")["cameras"].cure
