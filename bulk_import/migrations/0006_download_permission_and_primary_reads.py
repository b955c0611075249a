from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("bulk_import", "0005_failed_deliveries")]

    operations = [
        migrations.AlterModelOptions(
            name="importedrow",
            options={
                "base_manager_name": "objects",
                "verbose_name": "imported row",
                "verbose_name_plural": "imported rows",
            },
        ),
        migrations.AlterModelOptions(
            name="importjob",
            options={
                "base_manager_name": "objects",
                "ordering": ["-created_at"],
                "permissions": [("download_rows", "Can download the rows of import jobs")],
                "verbose_name": "import job",
                "verbose_name_plural": "import jobs",
            },
        ),
        migrations.AddField(
            model_name="importevent",
            name="rows",
            field=models.PositiveIntegerField(default=0, verbose_name="rows"),
        ),
    ]
