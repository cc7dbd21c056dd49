"""Index a user, follow the job over any number of restarts, and page through the user's channels."""

import sys

from indexer_client import Client, pb

address, user = sys.argv[1:]
with Client(address) as client:
    job = client.start_and_wait(user, force=True)
    print("job:", pb.JobState.Name(job.state), job.progress.succeeded, "guilds")
    print("channels:", len(list(client.channels(user))))
