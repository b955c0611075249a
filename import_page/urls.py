"""The page. It calls the API that is mounted beside it, at `../bulk`."""

from django.urls import path

from import_page import views

app_name = "import_page"

urlpatterns = [path("", views.ImportPage.as_view(), name="import")]
