"""The progress bar and the rate chart of a job, as HTML without scripts or style attributes, which a strict CSP allows.

A progress bar is the browser's own <progress>. No HTML element draws a time series, so the rate chart is SVG.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Count
from django.db.models.functions import TruncSecond
from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from bulk_import.reports.messages import clock_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from django.utils.safestring import SafeString

    from bulk_import.models import ImportJob

CHART_WIDTH, CHART_HEIGHT = 600, 120
"""Size of the rate chart in SVG units. The browser scales the chart to the width of the page."""

MAX_BARS = 60
"""Maximum number of bars in the rate chart. More would be too narrow to see on a phone."""

MAX_SAMPLED_ROWS = 20 * MAX_BARS
"""Maximum number of created rows that the rate chart reads, so that a large job costs no more than a small one."""


def progress_bar(job: ImportJob) -> SafeString:
    """Return a bar of the rows that have an outcome, out of all rows. Needs `with_counts`."""
    label = _("%(finished)s of %(rows)s rows finished") % {
        "finished": number_format(job.finished_rows, force_grouping=True),
        "rows": number_format(job.rows, force_grouping=True),
    }
    return format_html(
        '<progress class="bi-progress" value="{}" max="{}" aria-label="{}" title="{}">{}</progress>',
        job.finished_rows,
        job.rows,
        label,
        label,
        label,
    )


def rate_chart(job: ImportJob) -> SafeString | str:
    """Return a bar chart of the rows created over time, or "" if no row was created."""
    seconds = created_by_second(job)
    if not seconds:
        return ""
    first, last = seconds[0][0], seconds[-1][0]
    length = int((last - first).total_seconds()) + 1
    seconds_per_bar = math.ceil(length / MAX_BARS)
    bars = [0] * math.ceil(length / seconds_per_bar)
    for second, count in seconds:
        bars[int((second - first).total_seconds()) // seconds_per_bar] += count
    label = _("Up to %(rate)s rows per second, from %(first)s to %(last)s") % {
        "rate": number_format(max(bars) / seconds_per_bar, 1),
        "first": clock_time(first),
        "last": clock_time(last),
    }
    tooltips = [
        _("%(time)s: %(rate)s rows per second")
        % {
            "time": clock_time(first + timedelta(seconds=number * seconds_per_bar)),
            "rate": number_format(count / seconds_per_bar, 1),
        }
        for number, count in enumerate(bars)
    ]
    return bar_chart(bars, tooltips, label)


def bar_chart(bars: list[int], tooltips: list[str], label: str) -> SafeString:
    """Return a bar chart with a caption. Screen readers read the caption."""
    return format_html(
        '<figure class="bi-rate"><svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        "{}</svg><figcaption>{}</figcaption></figure>",
        CHART_WIDTH,
        CHART_HEIGHT,
        label,
        format_html_join(
            "",
            '<rect x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>',
            ((*rectangle, tooltip) for rectangle, tooltip in zip(rectangles(bars), tooltips, strict=True)),
        ),
        label,
    )


def created_by_second(job: ImportJob) -> list[tuple[datetime, int]]:
    """Return each second in which rows were created, with the number of these rows.

    For a large job, it reads only every n-th row and counts each of them n times.
    """
    step = math.ceil(job.rows / MAX_SAMPLED_ROWS)
    rows = job.imported_rows.filter(index__in=range(0, job.rows, step)) if step > 1 else job.imported_rows.all()
    counts = (
        rows.annotate(second=TruncSecond("created_at"))
        .order_by("second")
        .values_list("second")
        .annotate(count=Count("pk"))
    )
    return [(second, count * step) for second, count in counts]


def rectangles(bars: list[int]) -> Iterator[tuple[str, str, str, str]]:
    """Yield x, y, width and height of each bar. The highest bar fills the height of the chart."""
    highest = max(bars) or 1
    width = CHART_WIDTH / len(bars)
    for number, count in enumerate(bars):
        height = CHART_HEIGHT * count / highest
        yield f"{number * width:.2f}", f"{CHART_HEIGHT - height:.2f}", f"{max(width - 1, 1):.2f}", f"{height:.2f}"
