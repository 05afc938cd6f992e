// Package archtest holds tests of the house itself: which package may import which, and whether the
// documents name things that exist. There is nothing in it to import.
package archtest
