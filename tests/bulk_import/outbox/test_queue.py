"""What happens if SQS accepts only some messages of a batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from bulk_import.exceptions import QueueUnavailable
from bulk_import.models import ImportChunk
from bulk_import.outbox import queue
from bulk_import.outbox.queue import send_messages
from tests.bulk_import.conftest import Aws, post_rows, product

if TYPE_CHECKING:
    from rest_framework.test import APIClient


def reject(monkeypatch: pytest.MonkeyPatch, *rejected: str) -> None:
    """Make SQS reject the messages of these chunks."""

    def send_message_batch(Entries: list[dict[str, Any]], **_options: Any) -> dict[str, Any]:  # noqa: N803 - boto3's name
        ids = [entry["Id"] for entry in Entries]
        failed = [
            {"Id": name, "Code": "InvalidMessageContents", "SenderFault": True} for name in ids if name in rejected
        ]
        return {"Successful": [{"Id": name} for name in ids if name not in rejected], "Failed": failed}

    monkeypatch.setattr(queue, "_client", lambda _options: SimpleNamespace(send_message_batch=send_message_batch))


@pytest.fixture
def chunks(client_of_merchandiser: APIClient, aws: Aws) -> list[ImportChunk]:
    post_rows(client_of_merchandiser, [product(str(n)) for n in range(4)])
    return list(ImportChunk.objects.select_related("job").order_by("number"))


@pytest.mark.django_db
def test_a_rejected_message_is_logged_with_its_reason(
    chunks: list[ImportChunk], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rejected = str(chunks[1].pk)
    reject(monkeypatch, rejected)

    assert send_messages(chunks) == [chunks[0]]
    assert f"SQS rejected the message of chunk {rejected}: InvalidMessageContents" in caplog.text


@pytest.mark.django_db
def test_if_every_message_is_rejected_the_queue_is_unavailable(
    chunks: list[ImportChunk], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reject(monkeypatch, *(str(chunk.pk) for chunk in chunks))

    with pytest.raises(QueueUnavailable):
        send_messages(chunks)
    assert caplog.text.count("InvalidMessageContents") == 2


@pytest.mark.django_db
def test_if_a_proxy_responds_with_html_the_queue_is_unavailable(
    chunks: list[ImportChunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_message_batch(**_options: Any) -> None:
        raise ResponseParserError("<html>")

    monkeypatch.setattr(queue, "_client", lambda _options: SimpleNamespace(send_message_batch=send_message_batch))

    with pytest.raises(QueueUnavailable):
        send_messages(chunks)


@pytest.mark.django_db
def test_the_messages_of_a_submitter_have_one_group_that_does_not_name_the_submitter(
    chunks: list[ImportChunk], aws: Aws, merchandiser: Any
) -> None:
    send_messages(chunks)
    answer = aws.sqs.receive_message(
        QueueUrl=aws.queue_url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["MessageGroupId"]
    )

    (group,) = {message["Attributes"]["MessageGroupId"] for message in answer["Messages"]}
    assert group == queue.message_group(merchandiser.pk) != queue.message_group(merchandiser.pk + 1)
    assert len(group) == queue.GROUP_CHARACTERS


@pytest.mark.django_db
@pytest.mark.parametrize("raises", [True, False])
def test_a_queue_that_refuses_groups_gets_the_messages_without_groups(
    chunks: list[ImportChunk], monkeypatch: pytest.MonkeyPatch, *, raises: bool
) -> None:
    def send_message_batch(Entries: list[dict[str, Any]], **_options: Any) -> dict[str, Any]:  # noqa: N803 - boto3's name
        if "MessageGroupId" not in Entries[0]:
            return {"Successful": [{"Id": entry["Id"]} for entry in Entries]}
        if raises:
            raise ClientError({"Error": {"Code": "InvalidParameterValue"}}, "SendMessageBatch")
        return {"Failed": [{"Id": entry["Id"], "Code": "InvalidParameterValue"} for entry in Entries]}

    monkeypatch.setattr(queue, "_client", lambda _options: SimpleNamespace(send_message_batch=send_message_batch))

    assert send_messages(chunks) == chunks
