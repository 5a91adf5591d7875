"""How long a classified row's way is, from its claim to its storing: it may get shorter. `pytest -s` prints it, file by file.

Before tasks were rooms of their own it was 21 files, 62 functions and 18 shapes by this count.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from sqlalchemy import select

from db.actors import Actor
from db.connect import Store
from db.schema import rows as rows_table
from db.settings import Role, StoreSettings
from tests.looking import on_record
from tests.workers.shard.follower import Follower
from tests.workers.shard.test_life import Bench
from tests.workers.submitting import LABELS, row
from workers.models.zero_shot import logits, prototypes, softmax
from workers.settings import WorkerSettings

ROOT = Path(__file__).parents[3]
TEXT = "Zyzzyvas ate the striker's quixotic boots."
MODEL = "minilm-l6-v2"
MOST_FILES, MOST_FUNCTIONS, MOST_SHAPES = 21, 52, 9


def test_a_rows_way_does_not_grow(stores: Callable[[Role], Store], tenant: Actor, settings: StoreSettings, models_home: Path) -> None:
    own = WorkerSettings(home=models_home, device="cpu", engine="torch", dtype="float32", lanes=1)
    first = Bench(stores, tenant, own)
    encoder = first.runtime.encoder(MODEL)
    answered = encoder.answer([TEXT, *LABELS])
    scores = softmax(logits(answered.vectors[:1], prototypes(answered.vectors[1:], 1)))[0]
    follower = Follower(ROOT, [TEXT.encode()], answered.sequences[0], [answered.vectors[0], scores])
    first.runtime.close()

    bench = Bench(stores, tenant, own)
    defaults: dict[str, object] = {"labels": LABELS, "templates": ["{}"]}
    bench.submit([row(0, {"input": "A first text."})], model=MODEL, defaults=defaults)
    follower.start()  # the lanes are started under it
    bench.run()
    follower.stop()
    job_id = bench.submit([row(0, {"input": TEXT}), row(1, {"input": "Another one."})], model=MODEL, defaults=defaults)
    with on_record(bench.api, tenant.tenant_id) as connection:
        sealed = list(connection.execute(select(rows_table.c.body_sealed)).scalars())
    follower._known += [bytes(sealed[-2]), f"cls_{job_id.hex}00000000".encode()]
    follower.forget()
    follower.start()
    bench.run()
    follower.stop()
    bench.runtime.close()

    print("\n".join(["", *(f"{file:44} {function}" for file, function in sorted(follower.functions))]))
    found = len(follower.files), len(follower.functions), len(follower.shapes)
    print("{} files, {} functions, {} shapes:".format(*found), *sorted(follower.shapes))
    assert len(bench.answers(job_id)) == 2
    assert np.less_equal(found, (MOST_FILES, MOST_FUNCTIONS, MOST_SHAPES)).all(), found
