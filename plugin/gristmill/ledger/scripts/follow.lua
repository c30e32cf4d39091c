-- ARGV: key of the collection that a parcel was accepted for, key of the one that it goes to, its documents (enrol_each), its
--       deletions. Moves the parcel's documents from roster to roster.
also_when_memory_is_full()
local documents = cjson.decode(ARGV[3])
withdraw_each(ARGV[1], documents)
enrol_each(ARGV[2], documents)
strike_each(ARGV[2], cjson.decode(ARGV[4]))
return 1
