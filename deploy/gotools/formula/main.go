// Command formula evaluates a formula of KEDA's scalingModifiers as KEDA 2.17 does: cast to a float, compiled with the
// triggers' names, run on their values (apis/keda/v1alpha1/scaledobject_webhook.go, read 2026-11-29).
//
//	formula 'FORMULA' '{"turns": 60, "headroom": 0.8}'
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/expr-lang/expr"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: formula FORMULA VALUES")
	}
	formula, values := os.Args[1], map[string]float64{}
	if err := json.Unmarshal([]byte(os.Args[2]), &values); err != nil {
		log.Fatal(err)
	}
	if !strings.HasPrefix(formula, "float(") {
		formula = "float(" + formula + ")"
	}
	program, err := expr.Compile(formula, expr.Env(values), expr.AsFloat64())
	if err != nil {
		log.Fatal(err)
	}
	out, err := expr.Run(program, values)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(out.(float64))
}
