// Index a user, follow the job over any number of restarts, and page through the user's channels.
package main

import (
	"context"
	"fmt"
	"os"

	health "google.golang.org/grpc/health/grpc_health_v1"

	pb "discord-channel-indexer.internal/indexer_service/v1"
)

func main() {
	ctx, user := context.Background(), os.Args[2]
	conn := connect(os.Args[1])
	api := pb.NewIndexerServiceClient(conn)
	alive, err := health.NewHealthClient(conn).Check(ctx, &health.HealthCheckRequest{})
	check(err)
	fmt.Println("health:", alive.Status)

	started, err := api.StartIndexing(ctx, &pb.StartIndexingRequest{UserId: user, Force: true})
	check(err)
	job, err := watch(ctx, api, started.Job.JobId, started.WatchToken)
	check(err)
	fmt.Println("job:", job.State, job.Progress.Succeeded, "guilds")

	channels, page := 0, &pb.ListChannelsRequest{UserId: user, PageSize: 100}
	for more := true; more; more = page.PageToken != "" {
		found, err := api.ListChannels(ctx, page)
		check(err)
		channels += len(found.Channels)
		page.PageToken = found.NextPageToken
	}
	fmt.Println("channels:", channels)

	_, err = api.GetJob(ctx, &pb.GetJobRequest{JobId: "x"})
	fmt.Println("wrong field:", wrongFields(err)[0])
}
