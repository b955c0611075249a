import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("bulk_import", "0009_circuit_breaker"),
    ]

    operations = [
        migrations.AddField(
            model_name="importchunk",
            name="deleted",
            field=models.PositiveIntegerField(default=0, verbose_name="deleted"),
        ),
        migrations.AddField(
            model_name="importchunk",
            name="row_lines",
            field=models.BinaryField(default=b""),
        ),
        migrations.AddField(
            model_name="importchunk",
            name="unchanged",
            field=models.PositiveIntegerField(default=0, verbose_name="unchanged"),
        ),
        migrations.AddField(
            model_name="importchunk",
            name="updated",
            field=models.PositiveIntegerField(default=0, verbose_name="updated"),
        ),
        migrations.AddField(
            model_name="importedrow",
            name="lookup",
            field=models.CharField(blank=True, max_length=255),
        ),
        migrations.AddField(
            model_name="importedrow",
            name="object_hash",
            field=models.BinaryField(default=b"", max_length=8),
        ),
        migrations.AddField(
            model_name="importedrow",
            name="outcome",
            field=models.CharField(
                choices=[
                    ("created", "created"),
                    ("updated", "updated"),
                    ("unchanged", "unchanged"),
                    ("deleted", "deleted"),
                ],
                default="created",
                max_length=9,
                verbose_name="outcome",
            ),
        ),
        migrations.AddField(
            model_name="importjob",
            name="mode",
            field=models.CharField(
                choices=[("create", "create"), ("update", "update"), ("upsert", "create or update"), ("undo", "undo")],
                default="create",
                max_length=6,
                verbose_name="mode",
            ),
        ),
        migrations.AddField(
            model_name="importjob",
            name="rehearsal",
            field=models.BooleanField(default=False, verbose_name="rehearsal"),
        ),
        migrations.AddField(
            model_name="importjob",
            name="runs",
            field=models.OneToOneField(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="run",
                to="bulk_import.importjob",
                verbose_name="runs",
            ),
        ),
        migrations.AddField(
            model_name="importjob",
            name="undoes",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="undos",
                to="bulk_import.importjob",
                verbose_name="undoes",
            ),
        ),
        migrations.AddIndex(
            model_name="importedrow",
            index=models.Index(
                condition=models.Q(("lookup", ""), _negated=True), fields=["lookup"], name="bulk_import_row_lookup"
            ),
        ),
    ]
