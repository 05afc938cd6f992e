package gitlabtest

import (
	"fmt"
	"strings"
)

// trace is a job's log so far, as a runner writes it: colours, carriage returns and section markers
// included. It grows while the job runs. The caller holds mu.
func (s *Server) trace(j *job) string {
	if j.started.IsZero() {
		return ""
	}
	body := j.Trace
	if body == "" {
		body = j.plausible()
	}
	lines := strings.SplitAfter(strings.TrimSuffix(body, "\n")+"\n", "\n")
	shown := len(lines)
	if j.finished.IsZero() {
		whole := s.scaled(j.Duration)
		if ran := s.at.Sub(j.started); whole > 0 && ran < whole {
			shown = int(float64(len(lines)) * float64(ran) / float64(whole))
		}
	}
	var b strings.Builder
	at := j.started.Unix()
	b.WriteString("\x1b[0KRunning with gitlab-runner 18.9.0 (5ac3a9a5)\x1b[0;m\n")
	b.WriteString("\x1b[0K  on cluster-runner t1_sBxkT, system ID: s_8f3c2d1ab044\x1b[0;m\n")
	section(&b, at, "prepare_executor", "Preparing the \"kubernetes\" executor",
		"\x1b[0KUsing Kubernetes namespace: gitlab-runner\x1b[0;m\n"+
			"\x1b[0KUsing Kubernetes executor with image registry.gitlab.com/opencraft/dev/grove/tools-container:v0.16.0 ...\x1b[0;m\n")
	section(&b, at, "get_sources", "Getting source from Git repository",
		fmt.Sprintf("\x1b[32;1mFetching changes with git depth set to 20...\x1b[0;m\n"+
			"\x1b[32;1mChecking out %.8s as detached HEAD (ref is %s)...\x1b[0;m\n", j.pipeline.sha, j.pipeline.ref))
	fmt.Fprintf(&b, "section_start:%d:step_script\r\x1b[0K\x1b[0K\x1b[36;1m"+
		"Executing \"step_script\" stage of the job script\x1b[0;m\x1b[0;m\n", at)
	for _, line := range lines[:shown] {
		b.WriteString(line)
	}
	switch j.status {
	case stSuccess:
		fmt.Fprintf(&b, "section_end:%d:step_script\r\x1b[0K\x1b[32;1mJob succeeded\x1b[0;m\n", j.finished.Unix())
	case stCanceled:
		fmt.Fprintf(&b, "section_end:%d:step_script\r\x1b[0K\x1b[0KCleaning up project directory and file based variables\x1b[0;m\n"+
			"\x1b[31;1mERROR: Job failed: canceled\x1b[0;m\n", j.finished.Unix())
	case stFailed:
		fmt.Fprintf(&b, "section_end:%d:step_script\r\x1b[0K\x1b[31;1mERROR: Job failed: %s\x1b[0;m\n",
			j.finished.Unix(), failureWords(j.reason))
	}
	return b.String()
}

func section(b *strings.Builder, at int64, name, title, text string) {
	fmt.Fprintf(b, "section_start:%d:%s\r\x1b[0K\x1b[0K\x1b[36;1m%s\x1b[0;m\x1b[0;m\n%s", at, name, title, text)
	fmt.Fprintf(b, "section_end:%d:%s\r\x1b[0K", at, name)
}

// failureWords is what the runner says about a failure.
func failureWords(reason string) string {
	switch reason {
	case "script_failure":
		return "command terminated with exit code 1"
	case "runner_system_failure":
		return "prepare environment: waiting for pod running: timed out waiting for pod to start"
	case "job_execution_timeout", "job_execution_server_timeout":
		return "execution took longer than 1h0m0s seconds"
	}
	return strings.ReplaceAll(reason, "_", " ")
}

// plausible is a log for a job by its name. Texts are written for this simulation; a failing job's
// text holds something that looks like a secret, so that redaction shows.
func (j *job) plausible() string {
	instance := "instance"
	if st := j.pipeline.story; st != nil && st.instance != "" {
		instance = st.instance
	}
	ending := j.status == stFailed
	switch j.Name {
	case "prepare":
		return "$ grove prepare\nReading TRIGGER_PAYLOAD\nInstance name: " + instance + "\nConfiguration is valid\n"
	case "push-branch":
		return "$ grove configure " + instance + "\nWriting instances/" + instance + "/config.yml\nWriting instances/" + instance +
			"/grove.yml\n$ git push origin HEAD:deployment/" + instance + "/" + j.pipeline.story.request +
			"\nremote: To create a merge request, visit the project's page\n * [new branch]\n"
	case "merge-request":
		return "$ grove merge " + instance + "\nMerge request opened\nMerge request merged\n"
	case "generate":
		return "$ grove generate-pipelines\nChanged instances: " + instance + "\nWriting terraform.yml\nWriting openedx.yml\n"
	case "terraform-init":
		return "$ tofu init\n\n\x1b[1mInitializing the backend...\x1b[0m\n\x1b[1mInitializing provider plugins...\x1b[0m\n" +
			"- Using previously-installed digitalocean/digitalocean v2.39.2\n\n" +
			"\x1b[1m\x1b[32mOpenTofu has been successfully initialized!\x1b[0m\n"
	case "terraform-plan":
		return terraformPlan(instance)
	case "terraform-apply":
		user := "module.mysql_user[\"" + instance + "\"].digitalocean_database_user.this"
		return "$ tofu apply -auto-approve plan.cache\n" + user + ": Modifying...\n" + user +
			": Modifications complete after 4s\n\n" +
			"\x1b[1m\x1b[32mApply complete! Resources: 0 added, 1 changed, 0 destroyed.\x1b[0m\n"
	case "build-openedx", "build-mfe":
		return imageBuild(instance, strings.TrimPrefix(j.Name, "build-"))
	case "init", "deploy":
		if ending {
			return failingMigration(instance)
		}
		return deployment(instance)
	}
	if ending {
		return "$ grove " + j.Name + " " + instance + "\nDB_PASSWORD=k3Tz9wPq-not-for-your-eyes\nerror: " + j.Name +
			" did not finish: connection to the cluster was lost\n"
	}
	return "$ grove " + j.Name + " " + instance + "\n" + j.Name + " is done\n"
}

func terraformPlan(instance string) string {
	return "$ tofu plan -out plan.cache\nmodule.k8s_cluster.digitalocean_kubernetes_cluster.cluster: Refreshing state...\n" +
		"module.mysql_user[\"" + instance + "\"].digitalocean_database_user.this: Refreshing state...\n\n" +
		"OpenTofu will perform the following actions:\n\n" +
		"\x1b[1m  # module.mysql_user[\"" + instance + "\"].digitalocean_database_user.this\x1b[0m will be updated in-place\n" +
		"\x1b[33m  ~\x1b[0m resource \"digitalocean_database_user\" \"this\" {\n" +
		"        name     = \"" + instance + "\"\n      \x1b[33m~\x1b[0m settings = (changed)\n    }\n\n" +
		"\x1b[1mPlan:\x1b[0m 0 to add, 1 to change, 0 to destroy.\n"
}

func imageBuild(instance, service string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ tutor images build %s\nBuilding image registry.example.com/%s/%s:latest\n", service, instance, service)
	steps := []string{
		"FROM docker.io/ubuntu:22.04", "RUN apt-get update", "RUN git clone --branch open-release/redwood.3 edx-platform",
		"RUN pip install -r requirements/edx/base.txt", "RUN npm clean-install", "RUN openedx-assets collect", "COPY settings",
	}
	for i, step := range steps {
		fmt.Fprintf(&b, "#%d [%d/%d] %s\n#%d DONE %d.%ds\n", i+5, i+1, len(steps), step, i+5, 3+i*7, i)
	}
	fmt.Fprintf(&b, "#%[1]d exporting cache to registry\n#%[1]d DONE 31.4s\nPushed registry.example.com/%[2]s/%[3]s:latest\n",
		len(steps)+5, instance, service)
	return b.String()
}

func deployment(instance string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ tutor k8s start\nnamespace/%s unchanged\n", instance)
	for _, d := range []string{"caddy", "cms", "cms-worker", "lms", "lms-worker", "meilisearch", "redis", "smtp", "mfe"} {
		fmt.Fprintf(&b, "deployment.apps/%s configured\n", d)
	}
	b.WriteString("Waiting for a lms deployment to be ready...\npod/lms-6c9d8f7b5-x2xqk condition met\nAll services initialised.\n")
	return b.String()
}

func failingMigration(instance string) string {
	return "$ tutor k8s init --limit lms\nInitialising all services...\njob.batch/lms-job-" +
		firstDay().Format("20060102150405") + " created\nLoading settings lms.envs.tutor.production\n" +
		"MYSQL_HOST=db-mysql-sfo3.example.com MYSQL_USER=" + instance + " MYSQL_PASSWORD=hV7dQ2rLx9sT4m\n" +
		"Operations to perform:\n  Apply all migrations: auth, certificates, contenttypes, course_overviews, student\n" +
		"Running migrations:\n  Applying course_overviews.0030_backfill_new_enrollment_dates...Traceback (most recent call last):\n" +
		"  File \"/openedx/venv/lib/python3.11/site-packages/django/db/backends/mysql/base.py\", line 75, in execute\n" +
		"    return self.cursor.execute(query, args)\n" +
		"  File \"/openedx/venv/lib/python3.11/site-packages/MySQLdb/connections.py\", line 254, in query\n" +
		"    _mysql.connection.query(self, query)\n" +
		"MySQLdb.OperationalError: (1205, 'Lock wait timeout exceeded; try restarting transaction')\n\n" +
		"django.db.utils.OperationalError: (1205, 'Lock wait timeout exceeded; try restarting transaction')\n" +
		"Error: Job lms-job failed. View the job logs to debug this issue.\n"
}

// Trace returns a job's log as the API would show it now.
func (s *Server) Trace(jobID int64) (string, error) {
	var log string
	err := fmt.Errorf("job %d: %w", jobID, ErrNotFound)
	s.see(func() {
		if j := s.jobs[jobID]; j != nil {
			log, err = s.trace(j), nil
		}
	})
	return log, err
}
