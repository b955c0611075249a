"""The worker API. Mount it once: path("bulk-import/worker/", include("bulk_import.worker_urls"))."""

from django.urls import path

from bulk_import import worker_api

urlpatterns = [
    path("chunks/<uuid:chunk_id>/claim", worker_api.ClaimView.as_view(), name="bulk-import-claim"),
    path("chunks/<uuid:chunk_id>/heartbeat", worker_api.HeartbeatView.as_view(), name="bulk-import-heartbeat"),
    path("chunks/<uuid:chunk_id>/release", worker_api.ReleaseView.as_view(), name="bulk-import-release"),
    path("chunks/<uuid:chunk_id>/finish", worker_api.FinishView.as_view(), name="bulk-import-finish"),
    path("chunks/<uuid:chunk_id>/dead", worker_api.DeadView.as_view(), name="bulk-import-dead"),
]
