"""The ONNX model and its int8 form, made by optimum and quantised as sentence-transformers does: `make_onnx.py MODEL FOLDER TEXTS`."""

import shutil
import sys
from pathlib import Path


def main(model: Path, folder: Path) -> None:
    from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    kind = next((name for name, flag in (("avx512_vnni", "avx512_vnni"), ("avx512", "avx512f")) if flag in flags), "avx2")
    shutil.copytree(model, folder, dirs_exist_ok=True)
    onnx = folder / "onnx"
    ORTModelForFeatureExtraction.from_pretrained(str(model), export=True).save_pretrained(onnx)
    config = getattr(AutoQuantizationConfig, kind)(is_static=False)
    ORTQuantizer.from_pretrained(onnx, file_name="model.onnx").quantize(quantization_config=config, save_dir=onnx)
    (onnx / "model.onnx").unlink()  # so that each peer takes the one that is meant
    (folder / "quantisation").write_text(f"int8 {kind}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
