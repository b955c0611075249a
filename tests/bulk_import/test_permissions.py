"""The monolith's policy in the SAM template: every permission is used by a call, and every call has its permission."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from django.core.files.storage import storages
from django.utils import timezone

import bulk_import
from bulk_import.conf import FAILURES_STORAGE, PAYLOADS_STORAGE
from bulk_import.doctor import examine
from bulk_import.models import ChunkStatus, ImportChunk, ImportJob, JobStatus
from bulk_import.retention import expire_jobs
from bulk_import.storage.payloads import put_payload, read_payload
from bulk_import_wire.lines import failure_line
from tests.bulk_import.conftest import Aws, post_rows, product
from tests.lambda_worker.aws_calls import called_in, recorded
from tests.lambda_worker.sam_template import Stack, allowed

if TYPE_CHECKING:
    from rest_framework.test import APIClient


@pytest.mark.django_db(transaction=True)
def test_the_monolith_may_do_what_it_does_and_nothing_else(client_of_merchandiser: APIClient, aws: Aws) -> None:
    payloads: Any = storages[PAYLOADS_STORAGE]
    failures: Any = storages[FAILURES_STORAGE]
    dead_letters = f"dead-{uuid4()}"
    dead_url = aws.sqs.create_queue(QueueName=dead_letters)["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
    aws.sqs.set_queue_attributes(QueueUrl=aws.queue_url, Attributes={"RedrivePolicy": redrive})
    resources = {
        dead_url: "DeadLetterQueue.Arn",
        dead_letters: "DeadLetterQueue.Arn",
        payloads.bucket_name: "PayloadsBucket.Arn",
        failures.bucket_name: "FailuresBucket.Arn",
        aws.queue_url: "Queue.Arn",
    }

    with recorded(resources, own=[aws.s3, aws.sqs]) as calls:
        location = post_rows(client_of_merchandiser, [product("A")])["Location"]
        job = ImportJob.objects.get()
        put_payload("products", job.pk, b"again")  # as a retry within boto3 does: the object is there already
        list(read_payload(job))
        aws.s3.put_object(Bucket=failures.bucket_name, Key=f"{job.pk}/1.jsonl", Body=failure_line({"index": 0}, b"{}"))
        ImportChunk.objects.update(status=ChunkStatus.DONE, failures_key=f"{job.pk}/1.jsonl")
        client_of_merchandiser.get(f"{location}/failures").getvalue()
        ImportJob.objects.update(status=JobStatus.FAILED, finished_at=timezone.now() - timedelta(days=100))
        expire_jobs()
        list(examine())

    policy = Stack().properties("MonolithPolicy")["PolicyDocument"]
    assert calls.permissions == allowed(policy)
    folder = Path(bulk_import.__file__).parent
    modules = {*folder.glob("**/*.py")} - {*folder.glob("local/*.py")}  # which only a developer's machine runs
    assert calls.operations == called_in(modules), "a call that this test does not reach"
