from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("bulk_import", "0001_initial")]

    operations = [migrations.RenameField("importjob", "settled_before", "finished_rows_before")]
