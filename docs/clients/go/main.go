// Index a user, follow the job over any number of restarts, and page through the user's channels.
package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	pb "discord-channel-indexer.internal/indexer_service/v1"
)

//go:embed service_config.json
var config string

func main() {
	address, user := os.Args[1], os.Args[2]
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(config))
	check(err)
	api := pb.NewIndexerServiceClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	alive, err := health.NewHealthClient(conn).Check(ctx, &health.HealthCheckRequest{})
	check(err)
	fmt.Println("health:", alive.Status)
	started, err := api.StartIndexing(ctx, &pb.StartIndexingRequest{UserId: user, Force: true})
	check(err)
	job := watch(ctx, api, started.Job.JobId, started.WatchToken)
	fmt.Println("job:", job.State, job.Progress.Succeeded, "guilds")

	channels, page := 0, &pb.ListChannelsRequest{UserId: user, PageSize: 100}
	for {
		found, err := api.ListChannels(ctx, page)
		check(err)
		channels += len(found.Channels)
		if page.PageToken = found.NextPageToken; page.PageToken == "" {
			break
		}
	}
	fmt.Println("channels:", channels)
	_, err = api.GetJob(ctx, &pb.GetJobRequest{JobId: "x"})
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			fmt.Println("wrong field:", bad.FieldViolations[0].Field)
		}
	}
}

// watch follows a job to its end. A stream that breaks or ends continues from the last token, on any server.
func watch(ctx context.Context, api pb.IndexerServiceClient, job, token string) *pb.Job {
	for streams := 1; ; streams++ {
		stream, err := api.WatchProgress(ctx, &pb.WatchProgressRequest{JobId: job, ResumeToken: token})
		for err == nil {
			var event *pb.WatchProgressResponse
			if event, err = stream.Recv(); err == nil {
				token = event.ResumeToken
				if end := event.GetTerminal(); end != nil {
					fmt.Println("streams:", streams)
					return end.Job
				}
			}
		}
		switch code := status.Code(err); {
		case err == io.EOF || code.String() == "Unavailable" || code.String() == "ResourceExhausted":
			time.Sleep(200 * time.Millisecond)
		default:
			log.Fatal(err)
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
