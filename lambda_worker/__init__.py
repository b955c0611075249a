"""The AWS Lambda functions that create the rows of a bulk import through the monolith's own create endpoint."""
