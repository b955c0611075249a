"""The AWS Lambda that creates the rows of a bulk import through the monolith's own create endpoint."""
