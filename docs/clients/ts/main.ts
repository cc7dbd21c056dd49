// Index a user, follow the job over any number of restarts, and page through the user's channels.
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BadRequestSchema } from "./gen/google/rpc/error_details_pb.js";
import { Health, HealthCheckResponse_ServingStatus as Status } from "./gen/grpc/health/v1/health_pb.js";
import { IndexerService, JobState } from "./gen/indexer_service/v1/indexer_pb.js";

const [address, userId] = process.argv.slice(2) as [string, string];
const transport = createGrpcTransport({ baseUrl: `http://${address}` });
const api = createClient(IndexerService, transport);
const again = new Set([Code.Unavailable, Code.ResourceExhausted, Code.Aborted, Code.Canceled, Code.Internal]);
console.log("health:", Status[(await createClient(Health, transport).check({})).status]);

const started = await api.startIndexing({ userId, force: true });
let [job, resumeToken] = [started.job!, started.watchToken];
while (job.endTime === undefined) { // a stream that breaks or ends continues from the last token, on any server
  try {
    for await (const message of api.watchProgress({ jobId: job.jobId, resumeToken })) {
      resumeToken = message.resumeToken || resumeToken;
      if (message.event.case === "terminal") job = message.event.value.job!;
    }
  } catch (error) {
    if (!again.has(ConnectError.from(error).code)) throw error;
  }
  await sleep(200);
}
console.log("job:", JobState[job.state], job.progress!.succeeded, "guilds");

let channels = 0;
for (let pageToken = "", more = true; more; more = pageToken !== "") {
  const page = await api.listChannels({ userId, pageSize: 100, pageToken });
  channels += page.channels.length;
  pageToken = page.nextPageToken;
}
console.log("channels:", channels);
await api.getJob({ jobId: "x" }).catch((error: unknown) => {
  const [bad] = ConnectError.from(error).findDetails(BadRequestSchema);
  console.log("wrong field:", bad!.fieldViolations[0]!.field);
});
