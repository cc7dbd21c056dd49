// What every Go program needs of a client: a connection, a watch that resumes, the details of an error.
package main

import (
	"context"
	_ "embed"
	"io"
	"log"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // client-side health checking
	"google.golang.org/grpc/status"

	pb "discord-channel-indexer.internal/indexer_service/v1"
)

//go:embed service_config.json
var config string

// connect returns a connection with the published service config. It is made at the first call.
func connect(address string) *grpc.ClientConn {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(config))
	check(err)
	return conn
}

// watch follows a job to its end. A stream that breaks or ends continues from the last token, on any server.
func watch(ctx context.Context, api pb.IndexerServiceClient, job, token string) (*pb.Job, error) {
	for {
		stream, err := api.WatchProgress(ctx, &pb.WatchProgressRequest{JobId: job, ResumeToken: token})
		for err == nil {
			var event *pb.WatchProgressResponse
			if event, err = stream.Recv(); err == nil {
				if event.ResumeToken != "" {
					token = event.ResumeToken
				}
				if end := event.GetTerminal(); end != nil {
					return end.Job, nil
				}
			}
		}
		if code := status.Code(err); err != io.EOF && code != codes.Unavailable && code != codes.ResourceExhausted {
			return nil, err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// wrongFields returns the fields of a request that an error names.
func wrongFields(err error) (fields []string) {
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, violation := range bad.FieldViolations {
				fields = append(fields, violation.Field)
			}
		}
	}
	return fields
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
