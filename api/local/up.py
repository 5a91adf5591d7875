"""`textmill up`: the whole stack under one home folder, from the first key to the last drain.

Exit codes are :class:`api.local.home.refusals.StackExit`. Everything listens on 127.0.0.1 or on sockets. Children get their secrets from
files of the home, never from a command line; should this process be killed in whatever way, the kernel ends them.
"""

import os
import resource
import signal
import time
from dataclasses import dataclass
from types import FrameType
from typing import Final

from sqlalchemy import make_url

from api.local import first_start
from api.local.display import Display
from api.local.home.home import Home
from api.local.home.instance import Instance
from api.local.home.refusals import StackError, StackExit, folder_refusal
from api.local.home.secret_files import write_private
from api.local.processes import parts
from api.local.processes.children import trim_log
from api.local.processes.deaths import Deaths
from api.local.processes.devices import devices, workers_on
from api.local.processes.ports import LOOPBACK, free_port, holder_of, is_free
from api.local.processes.supervisor import State, Supervisor
from api.local.servers.postgres import EmbeddedPostgres
from api.local.servers.valkey import EmbeddedValkey
from db.errors import SettingsError
from db.operators.queue_gauge import Counts, QueueGauge
from db.process_names import name_of
from db.server.migrate import DATABASE
from db.settings import Role, StoreSettings, load
from workers.exporter import own_version

API_PORT: Final = 8910
FLOWER_PORT: Final = 5555
TICK_SECONDS: Final = 0.1
SHOW_SECONDS: Final = 0.5
COUNT_SECONDS: Final = 2.0
TRIM_SECONDS: Final = 60.0
FLOWER_PATIENCE_SECONDS: Final = 15.0  # the stack does not wait longer for what only shows it


@dataclass(frozen=True, slots=True)
class UpOptions:
    """Port 0: a free one. ``flower_port`` None: no Flower. ``workers`` None: one a device. ``preload``: models that each loads before it is
    ready."""

    port: int = API_PORT
    flower_port: int | None = FLOWER_PORT
    workers: int | None = None
    preload: tuple[str, ...] = ()


class Stop:
    """Ctrl-C, SIGTERM or a closed terminal: the first asks for a drain, the second to hurry."""

    def __init__(self) -> None:
        self._count = 0

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
                signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1

    @property
    def wanted(self) -> bool:
        return self._count > 0

    @property
    def hurried(self) -> bool:
        return self._count > 1


class Stack:
    """The parts of one home. One thread, the main one, owns it."""

    def __init__(self, home: Home, options: UpOptions, display: Display, stop: Stop) -> None:
        self._home = home
        self._options = options
        self._display = display
        self._stop = stop
        self._instance = Instance(home)
        self._supervisor = Supervisor(display.tell, ended=self._ended)
        self._ports = {"api": options.port or free_port()}
        if options.flower_port is not None:
            self._ports["flower"] = options.flower_port or free_port()
        self._metrics = parts.MetricsPorts()
        self._starts = parts.Starts()
        self._workers = workers_on(devices(), options.workers)
        self._settings: StoreSettings | None = None
        self._deaths: Deaths | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._valkey: EmbeddedValkey | None = None
        self._was_ready = False
        self._published = -1

    def run(self) -> StackExit:
        """Until it is told to stop. StackError where it does not come up; what did start is ended before."""
        began = time.monotonic()
        if self._instance.acquire():
            self._display.tell(f"the stack before this one ended without a word: its pid file {self._home.run / 'up.pid'} is replaced")
        if StoreSettings().unsafe_sealing_off:
            self._display.tell("TEXTMILL_UNSAFE_SEALING_OFF is set: everything stored from now on can be read by whoever gets the database")
        try:
            refuse_taken(self._ports)
            self._start()
            self._watch(began)
        finally:
            self._end()
        return StackExit.INTERRUPTED if self._stop.hurried else StackExit.OK

    # Start

    def _start(self) -> None:
        try:
            self._start_servers()
            settings = self._settings = StoreSettings()
            first_start.make_tables(settings)
            superuser_url = self._postgres.superuser_url(DATABASE) if self._postgres is not None else None
            if told := first_start.make_local_key(self._home, settings, superuser_url):
                self._display.tell(told)
            self._deaths = Deaths(settings, self._display.tell)
        except OSError as error:
            raise folder_refusal(self._home.path, error) from None
        for program in self._programs():
            if self._stop.wanted:
                return
            self._supervisor.start(program)

    def _start_servers(self) -> None:
        os.environ["TEXTMILL_HOME"] = str(self._home.path)
        if not os.environ.get("TEXTMILL_DATABASE_URL"):
            self._postgres = EmbeddedPostgres(self._home.path)
            self._supervisor.start(self._postgres)
            first_start.make_roles(self._home, self._postgres.superuser_url())
            write_private(self._home.run / "database.url", self._postgres.address(DATABASE))
        if not os.environ.get("TEXTMILL_REDIS_URL"):
            self._valkey = EmbeddedValkey(self._home.path)
            self._supervisor.start(self._valkey)
            write_private(self._home.run / "redis.url", self._valkey.url)

    def _programs(self) -> list[parts.Program]:
        from workers.settings import WorkerSettings

        drain_seconds = load(WorkerSettings).drain_seconds
        programs = [
            parts.api_program(self._home, self._ports["api"]),
            parts.dispatcher_program(self._home, self._metrics),
        ]
        programs += [
            parts.worker_program(self._home, each, drain_seconds, self._metrics, self._starts, self._options.preload)
            for each in self._workers
        ]
        if "flower" in self._ports:
            programs.append(parts.flower_program(self._home, self._ports["flower"]))
        return programs

    # Watch

    def _watch(self, began: float) -> None:
        assert self._settings is not None
        gauge = QueueGauge(self._settings.database_url_for(Role.DISPATCHER))
        counts: Counts | None = None
        shown = counted = trimmed = began
        while not self._stop.wanted:
            self._supervisor.tick()
            now = time.monotonic()
            if not self._was_ready:
                self._refuse_hopeless()
                if self._is_ready(now - began):
                    self._was_ready = True
                    self._display.places(self._places())
                    self._display.tell(f"ready after {now - began:.1f} s")
                    self._supervisor.changes += 1
            if self._display.is_live and now - shown >= SHOW_SECONDS:
                if self._was_ready and now - counted >= COUNT_SECONDS:
                    counts, counted = gauge.read(), now
                self._display.show(self._supervisor.watched, counts)
                shown = now
            if now - trimmed >= TRIM_SECONDS:
                for log in self._home.logs.glob("*.log"):
                    trim_log(log)
                trimmed = now
            self._publish()
            time.sleep(TICK_SECONDS)
        gauge.close()

    def _is_ready(self, seconds: float) -> bool:
        waited_for = [
            each for each in self._supervisor.watched if each.name != "flower" or (seconds < FLOWER_PATIENCE_SECONDS and not each.note)
        ]
        return all(each.state is State.RUNNING for each in waited_for)

    def _refuse_hopeless(self) -> None:
        hopeless = self._supervisor.hopeless()
        if hopeless is not None and hopeless.name != "flower":
            raise StackError(f"{hopeless.name} does not start: {hopeless.note} (its log: {self._home.logs / hopeless.name}.log)")

    def _publish(self) -> None:
        if self._published == self._supervisor.changes:
            return
        self._published = self._supervisor.changes
        watched = self._supervisor.watched
        self._instance.publish(
            {
                "version": own_version(),
                "pid": os.getpid(),
                "home": str(self._home.path),
                "ready": self._was_ready,
                "api": f"http://{LOOPBACK}:{self._ports['api']}",
                "flower": f"http://{LOOPBACK}:{self._ports['flower']}" if "flower" in self._ports else None,
                "postgres": self._postgres_place(),
                "redis": self._redis_place(),
                "metrics": {name: f"http://{LOOPBACK}:{port}/metrics" for name, port in self._metrics.of.items()},
                "children": {each.name: each.pid for each in watched if each.pid},
                "parts": [
                    {"name": each.name, "state": each.state.value, "pid": each.pid, "restarts": each.restarts.total, "note": each.note}
                    for each in watched
                ],
            }
        )

    @property
    def _worker_names(self) -> list[str]:
        return [each.name for each in self._workers]

    def _ended(self, part: parts.Part, pid: int) -> None:
        if self._deaths is not None and part.name in self._worker_names:
            self._deaths.saw(name_of(pid, self._starts.of[part.name]))

    # End

    def _end(self) -> None:
        self._display.close()
        try:
            # The API stops taking requests while the workers finish the shards in flight; only then may what they need go.
            self._supervisor.stop([["api", *self._worker_names]], lambda: self._stop.hurried)
            if self._deaths is not None and not self._stop.hurried:
                self._deaths.close()
            self._supervisor.stop([["dispatcher", "flower"], ["valkey"], ["postgres"]], lambda: self._stop.hurried)
        finally:
            self._instance.release()

    # Places

    def _places(self) -> list[tuple[str, str]]:
        api = f"http://{LOOPBACK}:{self._ports['api']}"
        places = [("API", api), ("Docs", f"{api}/docs")]
        if "flower" in self._ports:
            places.append(
                (
                    "Flower",
                    f"http://{LOOPBACK}:{self._ports['flower']}  user {parts.FLOWER_USER}, password in {self._home.secrets / 'flower'}",
                )
            )
        return [
            *places,
            ("Postgres", self._postgres_place()),
            ("Valkey" if self._valkey else "Redis", self._redis_place()),
            ("API key", str(self._home.secrets / "api-key")),
            ("Logs", str(self._home.logs)),
        ]

    def _postgres_place(self) -> str:
        if self._postgres is not None:
            return self._postgres.address(DATABASE)
        return make_url(os.environ["TEXTMILL_DATABASE_URL"]).set(username=None, password=None).render_as_string()

    def _redis_place(self) -> str:
        if self._valkey is not None:
            return f"redis://{LOOPBACK}:{self._valkey.port}/0"
        return make_url(os.environ["TEXTMILL_REDIS_URL"]).set(username=None, password=None).render_as_string()


def run(home: Home, options: UpOptions, display: Display) -> StackExit:
    """Blocks until the stack has ended. For the main thread of a process of its own."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    check_environment()
    stop = Stop()
    stop.install()
    home.prepare(holds_database=not os.environ.get("TEXTMILL_DATABASE_URL"))
    return Stack(home, options, display, stop).run()


def check_environment() -> None:
    """Settings that the parts would refuse one after the other are refused here, once. StackError with the sentence."""
    from api.settings import ApiSettings
    from workers.settings import DispatcherSettings, WorkerSettings

    try:
        load(WorkerSettings)
        load(DispatcherSettings)
        settings = load(ApiSettings)
        if settings.database_url:
            settings.database_url_for(Role.OWNER)
        if settings.redis_url:
            settings.broker_url()
    except SettingsError as error:
        raise StackError(error.message, StackExit.USAGE) from None


def refuse_taken(ports: dict[str, int]) -> None:
    """StackError where somebody else listens on a port we need."""
    options = {"api": "--port", "flower": "--flower-port"}
    for name, port in ports.items():
        if not is_free(port):
            holder = holder_of(port)
            raise StackError(
                f"Port {port} is taken{f' by {holder}' if holder else ''}: give another with {options[name]} (0 takes a free one).",
                StackExit.PORT_TAKEN,
                code="port_taken",
            )
