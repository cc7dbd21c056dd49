// Index a user, follow the job over any number of restarts, and page through the user's channels.
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BadRequestSchema } from "./gen/google/rpc/error_details_pb.js";
import { IndexerService, JobState, type Job } from "./gen/indexer_service/v1/indexer_pb.js";

const [address, userId] = process.argv.slice(2) as [string, string];
const api = createClient(IndexerService, createGrpcTransport({ baseUrl: `http://${address}` }));
const again = new Set([Code.Unavailable, Code.ResourceExhausted, Code.Aborted, Code.Canceled, Code.Internal]);

// Follow a job to its end. A stream that breaks or ends continues from the last token, on any server.
async function watch(jobId: string, resumeToken: string): Promise<Job> {
  for (let streams = 1; ; streams++) {
    try {
      for await (const message of api.watchProgress({ jobId, resumeToken })) {
        resumeToken = message.resumeToken;
        if (message.event.case === "terminal") {
          console.log("streams:", streams);
          return message.event.value.job!;
        }
      }
    } catch (error) {
      if (!again.has(ConnectError.from(error).code)) throw error;
    }
    await sleep(200);
  }
}

const started = await api.startIndexing({ userId, force: true });
const job = await watch(started.job!.jobId, started.watchToken);
console.log("job:", JobState[job.state], job.progress!.succeeded, "guilds");

let channels = 0;
for (let pageToken = "", more = true; more; more = pageToken !== "") {
  const page = await api.listChannels({ userId, pageSize: 100, pageToken });
  channels += page.channels.length;
  pageToken = page.nextPageToken;
}
console.log("channels:", channels);
await api.getJob({ jobId: "x" }).catch((error: unknown) => {
  for (const bad of ConnectError.from(error).findDetails(BadRequestSchema)) {
    console.log("wrong field:", bad.fieldViolations[0]!.field);
  }
});
