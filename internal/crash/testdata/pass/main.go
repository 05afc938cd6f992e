// Command pass passes two points a few times and says so.
package main

import (
	"fmt"
	"os"

	"ocim/internal/crash"
)

func main() {
	for i := 1; i <= 3; i++ {
		crash.Point("first")
		_, _ = fmt.Fprintln(os.Stdout, "first", i)
		crash.Point("second")
		_, _ = fmt.Fprintln(os.Stdout, "second", i)
	}
}
