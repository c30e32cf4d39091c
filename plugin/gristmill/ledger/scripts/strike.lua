-- ARGV: collection, bucket, name, version. Strikes a document off the roster, unless a newer version was accepted.
enrol(ARGV[1], ARGV[2], ARGV[3], ARGV[4], false)
return 1
