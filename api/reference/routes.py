"""Every route: method, address, what the key must allow, and what it does, from the application itself."""

from collections.abc import Iterator
from typing import Any, get_type_hints

from fastapi.routing import APIRoute

from api.app import RESOURCES
from api.reference.tables import bounds_of, shown, table
from api.requests.auth import Needs


def part() -> str:
    rows = [
        (f"`{method} {shown_path(route)}`", " or ".join(f"`{scope}`" for scope in scopes_of(route)) or "none", _told(route))
        for route in all_routes()
        for method in sorted(route.methods or ())
    ]
    return table(("route", "scope", "what it does"), rows)


def all_routes() -> Iterator[APIRoute]:
    """In the order of the application."""
    for resource in RESOURCES:
        yield from (route for route in resource.router.routes if isinstance(route, APIRoute))


def shown_path(route: APIRoute) -> str:
    """Without what its names may stand for: `{model_id}`."""
    return route.path.replace(":path}", "}")


def scopes_of(route: APIRoute) -> tuple[str, ...]:
    """Of which a key must hold one; none: no key is asked for."""
    return next((each.call.scopes for each in route.dependant.dependencies if isinstance(each.call, Needs)), ())


def body_of(route: APIRoute) -> Any:
    """The struct of its JSON body, or None."""
    return get_type_hints(route.endpoint).get("body")


def _told(route: APIRoute) -> str:
    about = " ".join((route.endpoint.__doc__ or "").partition("\n\n")[0].replace("``", "`").split())
    fields = [_field(each) for each in route.dependant.query_params]
    return about + (f" Query: {', '.join(fields)}." if fields else "")


def _field(field: Any) -> str:
    told = "; ".join(
        filter(None, (bounds_of(field.field_info.metadata), f"default {default}" if (default := shown(field.default)) else ""))
    )
    return f"`{field.alias}`" + (f" ({told})" if told else "")
