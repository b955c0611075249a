from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("bulk_import", "0008_chunks_in_flight"),
    ]

    operations = [
        migrations.AddField(
            model_name="importjob",
            name="failed_since_resume",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="importjob",
            name="tried_since_resume",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="importjob",
            name="pause_code",
            field=models.CharField(
                blank=True,
                choices=[
                    ("endpoint_away", "the create endpoint does not answer"),
                    ("endpoint_busy", "the create endpoint is too busy"),
                    ("forbidden", "the submitter no longer has permission to create these rows"),
                    ("token_rejected", "something in front of the site rejected the import's Authorization header"),
                    ("wrong_endpoint", "the worker's calls do not reach the create endpoint"),
                    ("wrong_status", "the create endpoint answers with a status that is not in success_statuses"),
                    ("staff", "a member of staff paused it"),
                    ("most_rows_failed", "nearly every row failed"),
                ],
                max_length=20,
                verbose_name="paused because",
            ),
        ),
    ]
