package chat

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, line, lines string }{
		{"nothing to do", "Grüße, 世界 😀", "Grüße, 世界 😀", "Grüße, 世界 😀"},
		{"empty", "", "", ""},
		{"line breaks and tabs", "a\nb\tc\r\nd", "a b c d", "a\nb\tc\nd"},
		{"Unicode's line breaks", "a\u2028b\u2029c\u0085d", "a b c d", "a b c d"},
		{"control characters", "a\x00b\x07c\x7fd\u0080e\u009bf", "abcdef", "abcdef"},
		{"terminal escapes", "\x1b[31mred\x1b]0;title\x07", "[31mred]0;title", "[31mred]0;title"},
		{"the other direction", "user\u202efdp.exe\u202c \u2066x\u2069 \u200fy\u061cz", "userfdp.exe x yz", "userfdp.exe x yz"},
		{"without a width", "de\u200bmo\u200c\u200d\u2060\ufeff\u00ad", "demo", "demo"},
		{"tags", "a\U000e0041\U000e007fb", "ab", "ab"},
		{"annotations", "a\ufff9b\ufffac\ufffbd", "abcd", "abcd"},
		{"not UTF-8", "a\xff\xc0\xbcb\xed\xa0\x80c", "abc", "abc"},
		{"combining marks stay", "e\u0301 \u05e9\u05dc\u05d5\u05dd", "e\u0301 \u05e9\u05dc\u05d5\u05dd", "e\u0301 \u05e9\u05dc\u05d5\u05dd"},
		{"emoji variants stay", "⚠️", "⚠️", "⚠️"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Clean(tt.in); got != tt.line {
				t.Errorf("one line: got %q, want %q", got, tt.line)
			}
			if got := CleanLines(tt.in); got != tt.lines {
				t.Errorf("lines: got %q, want %q", got, tt.lines)
			}
		})
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"a\nb", "\x1b[31m", "\u202e", "\xff\xfe", "😀", "\u2028\t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		line := Clean(s)
		if !utf8.ValidString(line) || Clean(line) != line {
			t.Errorf("%q: got %q, want it valid and clean", s, line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return unsafeRune(r) != keep }) {
			t.Errorf("%q: got %q, want no unsafe character", s, line)
		}
		lines := CleanLines(s)
		if !utf8.ValidString(lines) || CleanLines(lines) != lines || Clean(lines) != line {
			t.Errorf("%q: got lines %q and line %q, want the same text", s, lines, line)
		}
	})
}

func TestCut(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		n    int
		want string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "ab…"},
		{"abcd", 1, "…"},
		{"", 1, ""},
		{"a", 1, "a"},
		{"äöü", 3, "äöü"},
		{"äöüß", 3, "äö…"},
		{"😀😀😀", 2, "😀…"},
		{"😀😀", 2, "😀😀"},
	}
	for _, tt := range tests {
		if got := Cut(tt.in, tt.n); got != tt.want {
			t.Errorf("Cut(%q, %d): got %q, want %q", tt.in, tt.n, got, tt.want)
		}
	}
}

func TestCutFront(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		n        int
		want     string
	}{
		{"short", "abc", 3, "abc"},
		{"cut", "abcdef", 3, "…ef"},
		{"one rune", "abc", 1, "…"},
		{"at a line break that is near", "first line\nx\nlast line here", 17, "…last line here"},
		{"not at one that is far", "a\nbcdefghijkl\nm", 8, "…hijkl\nm"},
		{"runes", "äöüß", 3, "…üß"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := CutFront(tt.in, tt.n); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzCut(f *testing.F) {
	f.Add("abc", 2)
	f.Add("äöü\n😀\xff", 3)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 1 || n > 1<<20 {
			return
		}
		runes := utf8.RuneCountInString(s)
		for name, got := range map[string]string{"Cut": Cut(s, n), "CutFront": CutFront(s, n)} {
			if c := utf8.RuneCountInString(got); c > n {
				t.Errorf("%s(%q, %d): got %d runes", name, s, n, c)
			}
			if (got != s) != (runes > n) {
				t.Errorf("%s(%q, %d): got %q of %d runes", name, s, n, got, runes)
			}
		}
		if cut := Cut(s, n); cut != s && !strings.HasPrefix(s, strings.TrimSuffix(cut, "…")) {
			t.Errorf("Cut(%q, %d): got %q, want its beginning", s, n, cut)
		}
	})
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"-5s": "0 s", "0s": "0 s", "999ms": "0 s", "45s": "45 s", "60s": "1 min", "61s": "1 min 01 s", "9m59s": "9 min 59 s", "10m1s": "10 min",
		"59m59s": "59 min", "60m": "1 h 00 min", "61m": "1 h 01 min", "47h59m": "47 h 59 min", "48h": "2 days", "240h": "10 days",
	} {
		if got := Duration(duration(t, in)); got != want {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
