from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q


def move_pending_deliveries(apps: Any, schema_editor: Any) -> None:
    """Create one delivery for each email and webhook that an event still requires."""
    ImportEvent = apps.get_model("bulk_import", "ImportEvent")
    Delivery = apps.get_model("bulk_import", "Delivery")
    events = ImportEvent.objects.using(schema_editor.connection.alias).select_related("job")
    pending = events.filter(Q(mail_due_at__isnull=False) | Q(webhook_due_at__isnull=False))
    for event in pending.iterator():
        deliveries = []
        if event.mail_due_at and event.job.submitter_id and event.job.notify != "none":
            recipients = ["submitter", *filter(None, event.job.notify.split(","))]
            deliveries += [
                Delivery(event=event, channel="email", recipient=recipient, due_at=event.mail_due_at)
                for position, recipient in enumerate(recipients)
                if position not in event.mailed
            ]
        if event.webhook_due_at:
            deliveries.append(Delivery(event=event, channel="webhook", due_at=event.webhook_due_at))
        Delivery.objects.using(schema_editor.connection.alias).bulk_create(deliveries)


class Migration(migrations.Migration):
    dependencies = [("bulk_import", "0002_finished_rows_before")]

    operations = [
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("channel", models.CharField(choices=[("email", "Email"), ("webhook", "Webhook")], max_length=10)),
                ("recipient", models.CharField(blank=True, max_length=254)),
                ("due_at", models.DateTimeField()),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                (
                    "event",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="bulk_import.importevent",
                    ),
                ),
            ],
            options={
                "verbose_name": "delivery",
                "verbose_name_plural": "deliveries",
                "base_manager_name": "objects",
                "indexes": [models.Index(fields=["channel", "due_at"], name="bulk_import_delivery_due")],
            },
        ),
        migrations.RunPython(move_pending_deliveries, migrations.RunPython.noop),
        migrations.AlterModelOptions(
            name="importevent",
            options={
                "verbose_name": "event",
                "verbose_name_plural": "events",
                "ordering": ["at"],
                "base_manager_name": "objects",
            },
        ),
        migrations.RemoveIndex(model_name="importevent", name="bulk_import_event_mail_due"),
        migrations.RemoveIndex(model_name="importevent", name="bulk_import_event_hook_due"),
        migrations.RemoveIndex(model_name="importevent", name="bulk_import_event_signal_due"),
        migrations.RemoveField(model_name="importevent", name="mail_due_at"),
        migrations.RemoveField(model_name="importevent", name="mailed"),
        migrations.RemoveField(model_name="importevent", name="webhook_due_at"),
        migrations.RemoveField(model_name="importevent", name="signal_due_at"),
    ]
