"""The worker API. Mount it once:

path("bulk-import/worker/", include("bulk_import.worker_urls"))
"""

from django.urls import path

from bulk_import.worker_api import views
from bulk_import.worker_api.batch import BatchView

urlpatterns = [
    path("chunks/<uuid:chunk_id>/claim", views.ClaimView.as_view(), name="bulk-import-claim"),
    path("chunks/<uuid:chunk_id>/heartbeat", views.HeartbeatView.as_view(), name="bulk-import-heartbeat"),
    path("chunks/<uuid:chunk_id>/release", views.ReleaseView.as_view(), name="bulk-import-release"),
    path("chunks/<uuid:chunk_id>/finish", views.FinishView.as_view(), name="bulk-import-finish"),
    path("chunks/<uuid:chunk_id>/dead", views.DeadView.as_view(), name="bulk-import-dead"),
    path("chunks/<uuid:chunk_id>/rows", BatchView.as_view(), name="bulk-import-rows"),
]
