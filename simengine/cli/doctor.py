"""`simengine doctor`."""

import ctypes.util
import importlib
import platform
import shutil
import sys
from importlib import metadata
from typing import Any

from simengine.cli.common import AsJson, emit

_NEEDED = ("torch", "warp-lang", "numpy", "scipy", "trimesh", "matplotlib", "pillow", "safetensors")
# package -> extra
_EXTRAS = {
    "pyvista": "view",
    "av": "video",
    "taichi": "taichi",
    "arviz": "bayes",
    "emcee": "bayes",
    "h5netcdf": "tables",
    "pandas": "tables",
    "pyarrow": "tables",
    "xarray": "tables",
    "nutpie": "bayes",
    "optuna": "search",
    "opencv-python": "camera",
    "scikit-fem": "mesh",
    "onnxruntime": "onnx",
    "distributed": "cluster",
}


def doctor(*, as_json: AsJson = False) -> int:
    """Say what is there, what is missing and the command that mends it. Never fails."""
    report: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _NEEDED:
        report[name] = _version(name) or f"missing: {sys.executable} -m pip install {name}"
    for name, of in _EXTRAS.items():
        report[name] = _version(name) or f"not there, and not needed: pip install 'simengine[{of}]'"
    report["cuda"] = _cuda()
    report["GL off screen"] = (
        "libEGL found"
        if ctypes.util.find_library("EGL")
        else "missing (only pyvista pictures need it): apt-get install libegl1"
    )
    report["Vulkan"] = (
        "loader found"
        if ctypes.util.find_library("vulkan")
        else "missing (only Taichi on other GPUs needs it): apt-get install libvulkan1 mesa-vulkan-drivers"
    )
    browser = next((b for b in ("chromium", "google-chrome", "firefox") if shutil.which(b)), None)
    report["browser"] = browser or "missing (only `simengine view` needs one)"
    emit(report, as_json=as_json, title="doctor")
    return 0


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cuda() -> str:
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        return f"torch does not import: {error}"
    if not torch.cuda.is_available():
        return "none; everything runs on the CPU"
    return str(torch.cuda.get_device_name())
