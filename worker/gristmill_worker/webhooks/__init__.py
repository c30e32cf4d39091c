"""Webhooks: what a worker tells of jobs that are done. Signed by Standard Webhooks, and never sent to where none may go."""
