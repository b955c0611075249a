"""The URL of the import page. The page calls the API at `../bulk`, relative to its own URL."""

from django.urls import path

from import_page import views

app_name = "import_page"

urlpatterns = [path("", views.ImportPage.as_view(), name="import")]
