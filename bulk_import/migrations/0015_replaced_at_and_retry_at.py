from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("bulk_import", "0014_on_existing"),
    ]

    operations = [
        migrations.AddField(
            model_name="importchunk",
            name="replaced_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="importchunk",
            name="retry_at",
            field=models.DateTimeField(null=True),
        ),
    ]
