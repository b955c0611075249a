"""The worker's two handlers, with seconds where they wait for half a minute before they try again."""

from lambda_worker import dead_letter, handler, monolith_client, redelivery

redelivery.FIRST_RETRY_SECONDS = 1
redelivery.MAX_RETRY_SECONDS = 4
monolith_client.AWAY_SECONDS = 1

handle_message = handler.handler
handle_dead_letter = dead_letter.handler
