// What Ollama makes of templates and conversations: JSON in, JSON out.
//
//	go run tests/sharing/render.go < cases.json > said.json
//
// Its data and its joining of neighbours are Ollama's (template/template.go there); the rest is Go's
// own text/template.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type message struct{ Role, Content string }

type sample struct {
	Template string
	Messages []message
}

func collated(all []message) []*message {
	var out []*message
	for i := range all {
		if last := len(out) - 1; last >= 0 && out[last].Role == all[i].Role {
			out[last].Content += "\n\n" + all[i].Content
		} else {
			out = append(out, &all[i])
		}
	}
	return out
}

func main() {
	var samples []sample
	if err := json.NewDecoder(os.Stdin).Decode(&samples); err != nil {
		panic(err)
	}
	said := []string{}
	for _, one := range samples {
		parsed := template.Must(template.New("").Option("missingkey=zero").Parse(one.Template))
		var b strings.Builder
		if err := parsed.Execute(&b, map[string]any{"Messages": collated(one.Messages), "System": "", "Response": ""}); err != nil {
			panic(err)
		}
		said = append(said, b.String())
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	out.SetIndent("", " ")
	if err := out.Encode(said); err != nil {
		panic(err)
	}
}
