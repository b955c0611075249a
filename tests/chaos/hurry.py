"""The worker's two handlers, with waits of one second instead of ten or more, so that the chaos tests end soon."""

from bulk_import_wire import message
from lambda_worker import worker_api_errors

worker_api_errors.AWAY_SECONDS = 1
message.FIRST_RETRY_SECONDS = message.MAX_RETRY_SECONDS = 1

from lambda_worker import dead_letter, handler  # noqa: E402 - chunk_session copies AWAY_SECONDS when it is imported

handle_message = handler.handler
handle_dead_letter = dead_letter.handler
