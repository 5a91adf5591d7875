"""What libraries leave on a machine beside what they are asked for."""

import os
import subprocess
import sys
from pathlib import Path


def files_after(statement: str, home: Path) -> list[str]:
    """What a process that runs it leaves in a home of its own."""
    home.mkdir()
    places = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "XDG_CONFIG_HOME": home / "config", "TMPDIR": home}
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}  # CI=1 turns it off
    environment |= {name: str(place) for name, place in places.items()} | {"PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", statement], env=environment, check=True, timeout=120, capture_output=True)
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def test_it_leaves_no_file_of_its_telemetry(tmp_path: Path) -> None:
    ours = "from workers.engines.encoders.onnx_encoder import import_onnxruntime; import_onnxruntime()"
    assert files_after(ours, tmp_path / "ours") == []
    plain = "import onnxruntime; onnxruntime.disable_telemetry_events()"
    assert any("onnxruntime" in name for name in files_after(plain, tmp_path / "plain")), "the control: without the variable it does"


def test_no_library_of_a_worker_leaves_a_file(tmp_path: Path) -> None:
    """OpenVINO's telemetry is kept out by its name, before the import."""
    engines = "; ".join(
        f"import workers.engines.encoders.{name}_encoder as {name}" for name in ("torch", "openvino", "onnx", "transformers")
    )
    loads = "openvino.import_openvino(); onnx.import_onnxruntime(); import transformers, sklearn.linear_model, workers.host.main"
    assert files_after(f"{engines}; {loads}", tmp_path / "ours") == []
    assert files_after("import openvino", tmp_path / "plain"), "the control: alone it leaves an id"
