"""Small pictures of a job, as SVG in the page: no script, no style attribute, nothing from elsewhere."""

from __future__ import annotations

import math
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from django.db.models import Count
from django.db.models.functions import TruncSecond
from django.utils import timezone
from django.utils.formats import number_format, time_format
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.utils.safestring import SafeString

    from bulk_import.models import ImportJob

OUTCOMES = ("created", "rejected", "failed", "unprocessed")
BAR_WIDTH, BAR_HEIGHT = 120, 10
CHART_WIDTH, CHART_HEIGHT = 600, 120
MAX_BUCKETS = 60
MAX_SAMPLED_ROWS = 20 * MAX_BUCKETS
"""Of the ledger, for the chart."""


def progress_bar(job: ImportJob) -> SafeString:
    """One bar of all rows, coloured by outcome; what is open is left empty. Needs `with_counts`."""
    counts = job.counts
    edges = [0]
    for outcome in OUTCOMES:
        edges.append(edges[-1] + counts[outcome])
    parts = [
        (BAR_WIDTH * first / job.rows, BAR_WIDTH * (last - first) / job.rows, outcome)
        for outcome, (first, last) in zip(OUTCOMES, pairwise(edges), strict=True)
        if last > first
    ]
    label = _("%(settled)s of %(rows)s rows") % {
        "settled": number_format(job.finished_rows, force_grouping=True),
        "rows": number_format(job.rows, force_grouping=True),
    }
    return format_html(
        '<svg class="bi-progress" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">'
        "<title>{}</title>{}</svg>",
        BAR_WIDTH,
        BAR_HEIGHT,
        BAR_WIDTH,
        BAR_HEIGHT,
        label,
        label,
        rectangles(parts, height=BAR_HEIGHT),
    )


def rectangles(parts: Iterable[tuple[float, float, str]], *, height: float) -> SafeString:
    """A rectangle for each (x, width, outcome)."""
    return format_html_join(
        "",
        '<rect x="{}" y="0" width="{}" height="{}" class="bi-{}"></rect>',
        ((f"{x:.2f}", f"{width:.2f}", height, outcome) for x, width, outcome in parts),
    )


def rate_chart(job: ImportJob) -> SafeString | str:
    """Rows created over time, from the ledger; "" when there are none.

    Of a large job it looks at every n-th row, for which it stands: however large a job is, the chart costs the same.
    """
    every = math.ceil(job.rows / MAX_SAMPLED_ROWS)
    sample = job.imported_rows.filter(index__in=range(0, job.rows, every)) if every > 1 else job.imported_rows.all()
    by_second = list(
        sample.annotate(second=TruncSecond("created_at"))
        .order_by("second")
        .values_list("second")
        .annotate(count=Count("pk"))
    )
    if not by_second:
        return ""
    first, last = by_second[0][0], by_second[-1][0]
    seconds = int((last - first).total_seconds()) + 1
    width = math.ceil(seconds / MAX_BUCKETS)  # seconds a bucket
    buckets = [0] * math.ceil(seconds / width)
    for second, count in by_second:
        buckets[int((second - first).total_seconds()) // width] += count * every
    highest = max(buckets)
    step = CHART_WIDTH / len(buckets)
    bars = format_html_join(
        "",
        '<rect x="{}" y="{}" width="{}" height="{}" class="bi-created"><title>{}</title></rect>',
        (
            (
                f"{place * step:.2f}",
                f"{CHART_HEIGHT * (1 - count / highest):.2f}",
                f"{max(step - 1, 1):.2f}",
                f"{CHART_HEIGHT * count / highest:.2f}",
                _("%(time)s: %(rate)s rows/s")
                % {
                    "time": time_format(timezone.localtime(first + timedelta(seconds=place * width)), "H:i:s"),
                    "rate": number_format(count / width, 1),
                },
            )
            for place, count in enumerate(buckets)
        ),
    )
    label = _("Up to %(rate)s rows a second, from %(first)s to %(last)s") % {
        "rate": number_format(highest / width, 1),
        "first": time_format(timezone.localtime(first), "H:i:s"),
        "last": time_format(timezone.localtime(last), "H:i:s"),
    }
    return format_html(
        '<figure class="bi-rate"><svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        "{}</svg><figcaption>{}</figcaption></figure>",
        CHART_WIDTH,
        CHART_HEIGHT,
        label,
        bars,
        label,
    )


def share_bar(share: float) -> SafeString:
    """A bar of this share (0 to 1) of the full width."""
    return format_html(
        '<svg class="bi-share" viewBox="0 0 {} {}" width="{}" height="{}" aria-hidden="true">{}</svg>',
        BAR_WIDTH,
        BAR_HEIGHT,
        BAR_WIDTH,
        BAR_HEIGHT,
        rectangles([(0, max(BAR_WIDTH * share, 1), "rejected")], height=BAR_HEIGHT),
    )
