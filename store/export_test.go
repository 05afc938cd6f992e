package store

// OpenWith is Open with other migrations, for tests of migrating.
var OpenWith = open
