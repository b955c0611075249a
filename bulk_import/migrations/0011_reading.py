from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("bulk_import", "0010_modes_and_outcomes"),
    ]

    operations = [
        migrations.AddField(
            model_name="importjob",
            name="reading",
            field=models.JSONField(default=dict),
        ),
    ]
