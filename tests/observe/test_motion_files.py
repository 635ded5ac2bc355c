"""Files of motion capture: positions and times in SI, points that were not seen."""

from pathlib import Path

import numpy as np
import pytest
import torch

from simengine.observe import Markers
from simengine.observe.motion_files import read_motion


def test_c3d_in_millimetres_with_a_point_that_is_lost(tmp_path: Path) -> None:
    """Zeros and NaN stand for a point that no camera saw."""
    ezc3d = pytest.importorskip("ezc3d")
    made = ezc3d.c3d()
    made["parameters"]["POINT"]["RATE"]["value"] = [50.0]
    made["parameters"]["POINT"]["LABELS"]["value"] = ["hip", "knee"]
    made["parameters"]["POINT"]["UNITS"]["value"] = ["mm"]
    points = np.ones((4, 2, 3))
    points[:3, 0] = [[100.0, 110.0, 120.0], [200.0, 200.0, 200.0], [0.0, 0.0, 0.0]]
    points[:3, 1] = [[10.0, 0.0, np.nan], [0.0, 0.0, np.nan], [30.0, 0.0, np.nan]]
    made["data"]["points"] = points
    made.write(str(tmp_path / "walk.c3d"))
    found = read_motion(tmp_path / "walk.c3d", columns={})
    assert found.names == ("hip", "knee") and found.times.tolist() == pytest.approx([0.0, 0.02, 0.04])
    hip = torch.tensor([[0.1, 0.2, 0.0], [0.11, 0.2, 0.0], [0.12, 0.2, 0.0]], dtype=torch.float64)
    assert torch.allclose(found.positions[:, 0], hip, atol=1e-8)  # the file holds float32
    assert found.positions[0, 1].tolist() == pytest.approx([0.01, 0.0, 0.03], abs=1e-8)
    assert bool(found.positions[1:, 1].isnan().all())


def test_trc_in_its_own_unit_with_an_empty_cell(tmp_path: Path) -> None:
    (tmp_path / "walk.trc").write_text(
        "PathFileType\t4\t(X/Y/Z)\tt.trc\nDataRate\tNumFrames\tNumMarkers\tUnits\n20\t2\t2\tcm\n"
        "Frame#\tTime\thip\t\t\tknee\t\t\n\t\tX1\tY1\tZ1\tX2\tY2\tZ2\n"
        "1\t0.5\t10\t20\t30\t1\t2\t3\n2\t0.55\t11\t20\t30\t\t\t\n"
    )
    found = read_motion(tmp_path / "walk.trc", columns={}, names=("knee", "hip"))
    assert found.names == ("knee", "hip") and found.times.tolist() == [0.5, 0.55]
    assert found.positions[0].tolist() == [pytest.approx([0.01, 0.02, 0.03]), pytest.approx([0.1, 0.2, 0.3])]
    assert bool(found.positions[1, 0].isnan().all()) and float(found.positions[1, 1, 0]) == pytest.approx(0.11)


def test_pixels_as_a_twin_writes_them_need_no_columns(tmp_path: Path) -> None:
    (tmp_path / "marks.csv").write_text("time,name,u,v\n0,a,30.5,20\n0,b,10,12\n0.1,a,31.5,\n")
    found = read_motion(tmp_path / "marks.csv", columns={}, names=("a", "b"))
    assert found.axes == ("u", "v") and found.times.tolist() == [0.0, 0.1]
    assert found.positions[0].tolist() == [[30.5, 20.0], [10.0, 12.0]]
    assert float(found.positions[1, 0, 0]) == 31.5 and bool(found.positions[1, 0, 1].isnan())


def test_a_start_that_rounds_above_its_frame_is_that_frame(tmp_path: Path) -> None:
    """0.1 + 0.2 is 0.30000000000000004, and the file says 0.3: marks sit where they are seen there."""
    rows = [f"{0.1 * k:.1f},a,{0.2 + 0.1 * k:.1f},0.0,0.5" for k in range(6)]
    (tmp_path / "marks.csv").write_text("\n".join(["time [s],name,x [m],y [m],z [m]", *rows]) + "\n")
    marks = Markers(name="marks", directory=tmp_path, file="marks.csv", start=0.1 + 0.2, sigma=1e-3)
    seen = marks.prepared(marks.read()).seen
    assert seen.positions[0].tolist() == pytest.approx([0.5, 0.0, 0.5])
    assert seen.times.tolist() == [0.3]


def test_rows_of_several_points_without_their_names_are_told_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "marks.csv").write_text("t [s],id,x [m]\n0.0,1,0.5\n0.0,2,0.6\n0.1,1,0.7\n0.1,2,0.8\n")
    with pytest.raises(ValueError, match=r"row 1 \(0 s\) does not; columns\.name"):
        read_motion(tmp_path / "marks.csv", columns={"time": "t", "x": "x"})
    found = read_motion(tmp_path / "marks.csv", columns={"time": "t", "x": "x", "name": "id"})
    assert found.names == ("1", "2") and found.times.tolist() == [0.0, 0.1]
    np.savez(tmp_path / "marks.npz", x=np.zeros((1, 2, 3)), time=np.zeros(1))
    with pytest.raises(ValueError, match="leave `columns` out"):
        read_motion(tmp_path / "marks.npz", columns={"time": "t"})


def test_a_name_may_be_any_cell(tmp_path: Path) -> None:
    (tmp_path / "marks.csv").write_text("time,name,x\n0.0,inf,0.5\n0.0,2,0.6\n")
    assert read_motion(tmp_path / "marks.csv", columns={}).names == ("inf", "2")
