from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("bulk_import", "0004_row_hashes")]

    operations = [
        migrations.AddField(
            "importchunk",
            "failed_deliveries",
            models.PositiveSmallIntegerField(default=0, verbose_name="failed deliveries"),
        )
    ]
