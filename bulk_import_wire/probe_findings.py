"""Says what the answer to a probe means: whether imports work, what got in the way, and the line to change."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from bulk_import_wire.contract import IDEMPOTENCY_KEY, VERDICT_HEADER, Claim, RowVerdict
from bulk_import_wire.findings import Finding, Level
from bulk_import_wire.json_object import MessageError
from bulk_import_wire.probe import ProbeReport, row_sha256

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from bulk_import_wire.probe import ProbeCall

MIN_ROWS_PER_SECOND = 10
"""A throttle that allows fewer rows per second is a finding. An import of 10,000 rows would take 17 minutes with it."""

SLOW_MILLISECONDS = 5000
"""A view that takes longer than this for a row is a finding. A worker waits for an answer for at most 30 seconds."""

ISOLATION_LEVELS = {"", "read committed", "read uncommitted"}
"""Isolation levels in which each statement sees all earlier commits. The report of a chunk relies on this."""

FIX_BASE_URL = (
    "Set BULK_IMPORT_BASE_URL of the worker to the URL of the site's root. It ends with the site's prefix "
    "(FORCE_SCRIPT_NAME, --root-path) exactly if the server expects the prefix in a request."
)

FIX_NOTHING_WRITTEN = (
    "Let the view create the object in its own request, through Django's connection, and answer 400 if it creates "
    "none. An endpoint that leaves the creation to a task, or answers 200 with an error in the body, cannot be used. "
    "If the status does not mean that an object was created, remove it from success_statuses."
)

EMPTY_ROW = "{}"
"""A row without fields. An endpoint that answers it with a success, and writes nothing, hides errors."""

FIX_LOG = (
    "Read the traceback in the site's log. With DEBUG = False, Django logs it only if LOGGING has a handler for the "
    "logger django.request."
)

FIX_CRASH = "If the view fails only because this row is generated, pass --row FILE with a row that it accepts."

FIX_OUTER_TRANSACTION = (
    "Find it in MIDDLEWARE. It must not open one for this app's URLs and for requests with an import token."
)

FIX_REPLACED = "Let the proxy pass error answers on unchanged (nginx: proxy_intercept_errors off)."

FIX_THROTTLE = (
    "Give the create view throttle_classes of its own, with a rate for imports: ScopedRateThrottle with 100/second."
)

FIX_PLACES = (
    "Keep bulk_import and the users in one shared schema of one database. With django-tenants, list their apps in "
    "SHARED_APPS and not in TENANT_APPS."
)

FIX_EARLY_USER = (
    "Let this middleware read request.user in its process_view method, which runs when the user of the import is "
    "known. If it only writes a log, you can ignore this."
)

FIX_GENERATED = (
    "Pass --row FILE with a row that the endpoint accepts. If it misses a header or a query parameter that your "
    "clients send, let the view have a default for it, because a create call has neither."
)

UNAUTHORIZED = (401, 403)


def judge_unsent(call: ProbeCall) -> Finding:
    """Return the finding for a probe that was not sent. It is only a warning if the settings do not allow probes."""
    level = Level.ERROR if call.is_allowed else Level.WARNING
    message = f"NOT CHECKED: whether a user's import creates rows here. {call.problem}"
    return Finding(f"target {call.target}", level, message, call.fix)


def judge_probe(call: ProbeCall, url: str, status: int, headers: Mapping[str, str], body: bytes) -> list[Finding]:
    """Return the findings for the answer to a probe. At least one; the first one is OK if the row would be created."""
    subject, claim = f"target {call.target}", call.to_claim()
    if VERDICT_HEADER not in headers or headers[VERDICT_HEADER] != RowVerdict.NOT_CREATED:
        return [judge_no_verdict(subject, url, status, headers, claim)]
    try:
        report = ProbeReport.from_dict(json.loads(body))
    except (ValueError, MessageError):
        message = f"{url} returned {status} with the {VERDICT_HEADER} header, but something changed the body."
        fix = "Exempt requests with an import token from the middleware or proxy that rewrites responses. Or run the "
        return [Finding(subject, Level.ERROR, message, f"{fix}same release everywhere. {FIX_REPLACED}")]
    found = [*_problems_of_the_way(call, claim, report), *_problems(call, report)]
    problems = [Finding(subject, level, message, fix) for level, message, fix in found]
    is_created = report.verdict in {RowVerdict.CREATED, RowVerdict.UPDATED}
    return [*([Finding(subject, Level.OK, _summary(report))] if is_created else []), *problems] or [
        Finding(subject, Level.ERROR, f"{_summary(report)} No reason is known.", FIX_LOG)
    ]


def may_hide_errors(first: Finding, success_statuses: Collection[int]) -> bool:
    """Return whether to probe the endpoint with EMPTY_ROW too. `first` is the first finding for a row with fields.

    An endpoint whose successes are not only 201 may answer 200 to everything, with the errors of a row in the body.
    """
    return first.level == Level.OK and set(success_statuses) != {HTTPStatus.CREATED}


def judge_empty_row(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield those findings for a probe with EMPTY_ROW that count. The endpoint should reject this row."""
    return (finding for finding in findings if finding.fix == FIX_NOTHING_WRITTEN)


def judge_no_verdict(subject: str, url: str, status: int, headers: Mapping[str, str], claim: Claim) -> Finding:
    """Return the finding for an answer that is not the middleware's answer to a valid call."""
    if headers.get(VERDICT_HEADER) == RowVerdict.WRONG_ENDPOINT:
        message = f"{url} leads to another path of the site than the create endpoint, so no row can be created."
        return Finding(subject, Level.ERROR, message, FIX_BASE_URL)
    if headers.get(VERDICT_HEADER) == RowVerdict.STALE:
        message = f"{url} rejected the token of the probe."
        fix = "Give all processes of the monolith the same TOKEN_KEYS and TARGETS, and the same clock."
        return Finding(subject, Level.ERROR, message, fix)
    message = f"{url} returned {status} without the {VERDICT_HEADER} header, so no row can be created."
    fix = "Put ImportedRowMiddleware last in MIDDLEWARE, and let proxies forward the headers "
    fix += f"{claim.token_header}, {IDEMPOTENCY_KEY} and {VERDICT_HEADER}."
    if status in UNAUTHORIZED:
        message += " Something in front of the middleware rejected the request."
        fix += (
            f' If it rejects the header {claim.token_header}, set "TOKEN_HEADER": "X-Import-Token" in BULK_IMPORT. If a'
            " middleware demands a session or a token of its own, exempt requests that have this header."
        )
    elif status == 404:  # noqa: PLR2004 - an HTTP status
        fix += f" {FIX_BASE_URL}"
    elif status == 400:  # noqa: PLR2004 - as above
        message += f" Perhaps the site does not know the host {claim.host}, or a proxy replaces answers of this status."
        fix = f'Add {claim.host!r} to ALLOWED_HOSTS, or set "HOST_HEADER" in BULK_IMPORT. {FIX_REPLACED} {fix}'
    elif 300 <= status < 400:  # noqa: PLR2004 - as above
        message += f" It redirects to {headers.get('Location', '')}."
        where = "Use a base URL that answers without a redirect: with https, and with the host that the site expects. "
        fix = f"{where}Behind a proxy that terminates TLS, set SECURE_PROXY_SSL_HEADER. {fix}"
    elif status == 503:  # noqa: PLR2004 - as above
        message += " Perhaps a middleware opens a database transaction around the request."
        fix = f"{FIX_OUTER_TRANSACTION} {fix}"
    elif status >= 500:  # noqa: PLR2004 - as above
        message += " Something in front of it failed: another middleware, the server or a proxy."
        fix = f"{FIX_LOG} If the log has none, look at the proxy. {fix}"
    return Finding(subject, Level.ERROR, message, fix)


def _summary(report: ProbeReport) -> str:
    databases = ", ".join(f"{alias}{' (written)' if alias in report.written else ''}" for alias in report.used)
    facts = [
        f"{report.view} answered {report.status} in {report.milliseconds} ms: {report.verdict}, and rolled back.",
        "If the view sent emails or changed anything else outside the databases, this has really happened.",
        f"Host {report.host}{f', tenant {report.tenant}' if report.tenant else ''}.",
        f"Databases: {databases or 'none'}{f'; {report.isolation}' if report.isolation else ''}.",
        f"Throttles: {', '.join(report.throttles) or 'none'}.",
    ]
    if report.hooks:
        facts.append(f"{report.hooks} on_commit functions would run after the commit.")
    return " ".join(facts)


def _problems(call: ProbeCall, report: ProbeReport) -> Iterator[tuple[Level, str, str]]:
    yield from _problems_of_the_status(call, report)
    if others := [alias for alias in report.written if alias != report.ledger]:
        message = f"The endpoint writes to {', '.join(others)}, and the ledger is in {report.ledger}. One transaction "
        message += "cannot cover both, so rows can be created twice or counted wrongly."
        yield Level.ERROR, message, "Keep the rows, the users and bulk_import in one database."
    elif report.verdict == RowVerdict.CREATED and report.ledger not in report.written:
        message = f"The endpoint answered {report.status} to the row {call.row}, but wrote nothing to {report.ledger}. "
        yield Level.ERROR, f"{message}An import would count it as created.", FIX_NOTHING_WRITTEN
    if report.isolation not in ISOLATION_LEVELS:
        fix = "Use read committed: check OPTIONS in DATABASES, and default_transaction_isolation of the role."
        yield Level.ERROR, f"The isolation level is {report.isolation}, so reports miss rows.", fix
    if report.serializer and report.serializer != call.serializer:
        message = f"The target validates rows with {call.serializer}, but the endpoint uses {report.serializer}."
        yield Level.WARNING, message, f'Set "serializer": "{report.serializer}" in TARGETS["{call.target}"].'
    if report.ignored:
        message = f"The endpoint ignores these fields of the row: {', '.join(report.ignored)}."
        yield Level.WARNING, message, "Correct the names, or add the fields to the serializer."
    if 0 < report.rows_per_second < MIN_ROWS_PER_SECOND:
        message = f"The throttles ({', '.join(report.throttles)}) allow {report.rows_per_second:.3g} rows per second."
        yield Level.WARNING, message, FIX_THROTTLE
    if report.milliseconds > SLOW_MILLISECONDS:
        message = f"The endpoint needs {report.milliseconds / 1000:.1f} s for one row. A worker waits for at most 30 s."
        yield Level.WARNING, message, "Move slow work of the view to a task that transaction.on_commit starts."


def _problems_of_the_way(call: ProbeCall, claim: Claim, report: ProbeReport) -> Iterator[tuple[Level, str, str]]:
    """Yield what happened to the request before it reached the view."""
    if report.key != call.key:
        message = f"The header {IDEMPOTENCY_KEY} arrived as {report.key!r}, so each row would be rejected."
        yield Level.ERROR, message, f"Let proxies and middleware pass on {IDEMPOTENCY_KEY} unchanged."
    for table, place in call.places.items():
        if report.places.get(table) != place:
            message = f"A create call finds the table {table} in {report.places.get(table)}, and the worker API in "
            yield Level.ERROR, f"{message}{place}. So no worker finds the imports of this host.", FIX_PLACES
    if report.is_user_read_early:
        message = "A middleware reads request.user before ImportedRowMiddleware. An import has no session, so it sees "
        yield Level.WARNING, f"{message}nobody, and may choose a wrong tenant or author.", FIX_EARLY_USER
    if report.setters:
        message = f"{', '.join(report.setters)} sets more than request.user. Authentication classes do not run for an "
        fix = "Set it in a process_view method of a middleware, from request.user or from the host, for all requests."
        yield Level.WARNING, f"{message}import, so the view may use a wrong tenant or default.", fix
    if report.body_sha256 != row_sha256(call.row):
        message = "The row did not arrive unchanged: something before the view rewrites the body of requests."
        fix = "Let the proxy or middleware that rewrites bodies pass requests with an import token unchanged."
        yield Level.ERROR, message, fix
    if claim.host and report.host != claim.host:
        message = f"The view saw the host {report.host} instead of {claim.host}, which the user's upload would have."
        fix = 'Let the proxy forward Host, or set "HOST_HEADER": "X-Forwarded-Host" in BULK_IMPORT and '
        yield Level.ERROR, message, fix + 'USE_X_FORWARDED_HOST = True. If the host does not matter, "HOST_HEADER": "".'
    if report.user != call.user:
        message = f"The view acted as user {report.user or 'nobody'} instead of {call.user}."
        fix = "A middleware or decorator inside the view replaces request.user. Let it keep the user of an import."
        yield Level.ERROR, message, fix


def _problems_of_the_status(call: ProbeCall, report: ProbeReport) -> Iterator[tuple[Level, str, str]]:  # noqa: C901 - a table
    """Yield why the row would not be created."""
    status, target = report.status, f'TARGETS["{call.target}"]'
    if report.verdict in {RowVerdict.CREATED, RowVerdict.UPDATED}:
        return
    answered = f"{report.view} answered {status}"
    reasons = "; ".join(f"{error.get('field') or 'row'}: {error.get('message')}" for error in report.errors[:3])
    if status in UNAUTHORIZED:
        message = f"{answered}, so an import of this user pauses. {reasons}"
        fix = (
            "Give the user the permission. If the user has it, a permission class of the view needs request.auth, for "
        )
        fix += "example an OAuth scope. An import has no request.auth, so let this class accept a request without it."
        yield Level.ERROR, message, fix
    elif 200 <= status < 300 and status in call.success_statuses:  # noqa: PLR2004 - an HTTP status
        message = f"{answered}, but nothing would be kept: {reasons or 'it rolled back its transaction'}."
        yield Level.ERROR, message, "Let the view answer an error status when it creates nothing."
    elif 200 <= status < 300:  # noqa: PLR2004 - as above
        expected = (f"{answered} to a creation.", f'Add "success_statuses": [{status}] to {target}.')
        nothing = (f"{answered}, but wrote nothing to a database.", FIX_NOTHING_WRITTEN)
        yield Level.ERROR, *(expected if report.written else nothing)
    elif 300 <= status < 400:  # noqa: PLR2004 - as above
        message = f"{answered}: it redirects to {report.location}."
        yield Level.ERROR, message, "Let the view answer API clients without a redirect, or correct create_url."
    elif status == 404:  # noqa: PLR2004 - as above
        fix = f'Correct "create_url" in {target}. If its URL has arguments, set "create_kwargs".'
        yield Level.ERROR, f"{answered}. {reasons}", fix
    elif status == 405:  # noqa: PLR2004 - as above
        yield Level.ERROR, f"{answered}: it does not accept POST.", f'Correct "create_url" in {target}.'
    elif status in {406, 415}:
        message = f"{answered}. Workers send and accept application/json. {reasons}"
        fix = (
            "Add rest_framework.parsers.JSONParser to parser_classes and JSONRenderer to renderer_classes of the view."
        )
        yield Level.ERROR, message, fix
    elif status == 429:  # noqa: PLR2004 - as above
        message = f"{answered}: the user's throttle is used up ({', '.join(report.throttles)})."
        yield Level.ERROR, message, FIX_THROTTLE
    elif status >= 500:  # noqa: PLR2004 - as above
        message = f"{answered}. {report.exception or reasons}"
        yield Level.ERROR, message.rstrip(), f"{FIX_LOG} {FIX_CRASH}" if call.is_generated else FIX_LOG
    elif call.is_generated:
        message = f"NOT CHECKED: whether rows are created. {answered} to the generated row {call.row}: {reasons}"
        yield Level.ERROR, message, FIX_GENERATED
    else:
        fix = "Pass a row that the endpoint accepts and that does not exist yet. If the row is right, look at what the "
        yield Level.ERROR, f"{answered} to the row: {reasons}", fix + "view's parser_classes make of it."
