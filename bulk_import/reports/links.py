"""The URLs of a job: where to go next, and which of these links a job has now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.urls import reverse
from rest_framework import serializers

from bulk_import.conf import conf
from bulk_import.models import ImportJob, JobMode
from bulk_import.reports.shared_fields import SharedFields

if TYPE_CHECKING:
    from collections.abc import Callable


class LinkField(serializers.URLField):
    """The job's URL with a suffix, or null if the job does not have this link now."""

    def __init__(self, suffix: str = "", has_link: Callable[[ImportJob], bool] | None = None, **options: Any) -> None:
        super().__init__(source="*", allow_null=has_link is not None, **options)
        self.suffix = suffix
        self.has_link = has_link


def can_be_undone(job: ImportJob) -> bool:
    """Return whether the job has created something, was not undone since it ended, and its target has the endpoint.

    What an undo did not delete is tried again by a retry of the undo, as for any other job.
    """
    is_possible = job.is_terminal and not job.rehearsal and "ledger" not in job.expired and job.mode != JobMode.UNDO
    has_endpoint = bool(conf().targets.get(job.target, {}).get("detail_url"))
    if not (is_possible and has_endpoint and job.created_count and job.finished_at):
        return False
    return job.undone_at is None or job.undone_at < job.finished_at  # a retry may have created more after the undo


def is_sent_again(job: ImportJob) -> bool:
    """Return whether a correction has imported all rows that are left of the job. See `models.sent_again`."""
    return 0 < (job.rows if job.rehearsal else job.rows - job.done_count) <= job.corrected_rows


class ImportJobLinksSerializer(SharedFields, serializers.Serializer[ImportJob]):
    """URLs of the job and of its actions. A link is null while it cannot be used."""

    uses_context = True

    self = LinkField(help_text="The job.")
    failures = LinkField(
        "/failures", lambda job: "failures" not in job.expired, help_text="The rows that were not created."
    )
    results = LinkField(
        "/results", lambda job: not {"failures", "ledger"} & job.expired.keys(), help_text="What became of each row."
    )
    retry = LinkField(
        "/retry",
        lambda job: job.can_be_retried and not is_sent_again(job),
        help_text="`POST` retries every row that was not created.",
    )
    redrive = LinkField(
        "/redrive", lambda job: not job.expired, help_text="`POST` retries the rows with the code `dead_letter`."
    )
    resume = LinkField(
        "/resume",
        lambda job: job.can_be_resumed,
        help_text="`POST` resumes an import that was paused because nearly every row failed.",
    )
    run = LinkField(
        "/run",
        lambda job: job.rehearsal and job.is_terminal and "payload" not in job.expired and not is_sent_again(job),
        help_text="`POST` imports the rows of the rehearsal.",
    )
    correct = LinkField(
        "/correct",
        lambda job: job.can_be_corrected and not is_sent_again(job),
        help_text="`POST` corrects rows, and sends them again.",
    )
    undo = LinkField("/undo", can_be_undone, help_text="`POST` deletes the objects that the import created.")
    cancel = LinkField("", lambda job: job.can_be_cancelled, help_text="`DELETE` cancels the import.")

    def to_representation(self, job: ImportJob) -> dict[str, Any]:
        """Return the URLs, which are absolute if the context has a request, and paths otherwise."""
        request, url = self.context.get("request"), job_path(job)  # the same for all links, so it is built once
        url = request.build_absolute_uri(url) if request else url
        links: Any = self.fields
        return {
            name: url + link.suffix if link.has_link is None or link.has_link(job) else None
            for name, link in links.items()
        }


def job_path(job: ImportJob) -> str:
    """Return the path of the job in the API, without a trailing slash, also if the API is mounted with one."""
    return f"{_jobs_path(job.target)}/{job.pk}"


def template_path(target: str) -> str:
    """Return the path of the template of a target in the API."""
    return f"{_jobs_path(target)}/template"


def _jobs_path(target: str) -> str:
    return reverse("bulk-import-jobs", kwargs={"target": target}).rstrip("/")
