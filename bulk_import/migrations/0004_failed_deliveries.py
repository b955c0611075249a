from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("bulk_import", "0003_delivery")]

    operations = [
        migrations.AddField(
            "importchunk",
            "failed_deliveries",
            models.PositiveSmallIntegerField(default=0, verbose_name="failed deliveries"),
        )
    ]
