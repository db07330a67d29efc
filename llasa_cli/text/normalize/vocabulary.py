"""The tables of the normalizer: short forms, names and units, and how each is read in English."""

from __future__ import annotations


def word_table(text: str) -> dict[str, str]:
    """ "no number,p page" -> {"no": "number", "p": "page"}."""
    return {short: words for short, _, words in (entry.strip().partition(" ") for entry in text.split(","))}


LETTERS = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz",
        "ay bee see dee ee eff jee aitch eye jay kay el em en oh pee cue are ess tee you vee double-you ex why zee".split(),
        strict=True,
    )
)
TITLES = word_table(
    "mr mister,mrs missus,ms miss,dr doctor,prof professor,st saint,mt mount,gen general,cllr councillor,gt great,col colonel,capt captain,"
    "lt lieutenant,sgt sergeant,rev reverend,gov governor,sen senator,rep representative,pres president,adm admiral,"
    "maj major,cpl corporal,messrs messieurs,mx mix,cmdr commander,hon honorable,fr father,ft fort,insp inspector,pvt private,det detective,ofc officer,mme madame,mlle mademoiselle,mons monsieur"
)
"""Abbreviations with a capital before a name. Elsewhere they are units ("5 ms.") or other words ("Main St.")."""
GIVEN_NAMES = word_table(
    "wm William,jas James,geo George,chas Charles,thos Thomas,robt Robert,benj Benjamin,saml Samuel,danl Daniel,edw Edward,"
    "eliz Elizabeth,margt Margaret"
)
"""Given names as registers shorten them."""
AFTER_ORDINALS = word_table(
    "fl floor,flr floor,cir circuit,amend amendment,bn battalion,regt regiment,div division,bde brigade,inf infantry,cav cavalry,"
    "cong Congress,sess session,dist district,ed edition,edn edition,min minute,cent century,c century,mvt movement"
)
"""Short forms only after an ordinal: "the 9th Cir."."""
BARE_TITLES = frozenset("mr mrs ms mme mlle dr prof capt lt sgt mt gt st messrs mx cmdr cpl gov sen rev".split())
"""Titles that are also written without a full stop. "Gen Z" and "Col" are left alone."""
PLACES = word_table(
    "st street,dr drive,ave avenue,rd road,blvd boulevard,ln lane,ct court,pl place,sq square,pkwy parkway,hwy highway,plz plaza"
)
"""Abbreviations with a capital after a name."""
BIBLE_BOOKS = word_table(
    "gen Genesis,ex Exodus,exod Exodus,lev Leviticus,num Numbers,deut Deuteronomy,josh Joshua,judg Judges,sam Samuel,kgs Kings,"
    "chr Chronicles,chron Chronicles,neh Nehemiah,ps Psalm,pss Psalms,prov Proverbs,eccl Ecclesiastes,isa Isaiah,jer Jeremiah,"
    "lam Lamentations,ezek Ezekiel,dan Daniel,hos Hosea,obad Obadiah,mic Micah,nah Nahum,hab Habakkuk,zeph Zephaniah,hag Haggai,"
    "zech Zechariah,mal Malachi,matt Matthew,mt Matthew,mk Mark,lk Luke,jn John,rom Romans,cor Corinthians,gal Galatians,"
    "eph Ephesians,phil Philippians,col Colossians,thess Thessalonians,tim Timothy,tit Titus,philem Philemon,heb Hebrews,"
    "jas James,pet Peter,rev Revelation,samuel Samuel,kings Kings,chronicles Chronicles,corinthians Corinthians,peter Peter,"
    "john John,thessalonians Thessalonians,timothy Timothy"
)
"""Only before a chapter and a verse: "Ps. 23:4"."""
BIBLE_NAMES = frozenset([*BIBLE_BOOKS, *(name.lower() for name in BIBLE_BOOKS.values())]) | frozenset(
    "judges ruth ezra esther job song songs solomon hosea joel amos jonah mark luke acts james jude sirach tobit wisdom baruch "
    "maccabees sura surah quran qur'an hymn".split()
)
"""Names before a chapter and a verse: "Psalm 23:4", which is no ratio."""
MONTHS = "January February March April May June July August September October November December".split()
MONTH_NAMES = {**{name[:3]: name for name in MONTHS}, "Sept": "September", **{name: name for name in MONTHS}}
MONTH_NAMES |= {name.upper(): long for name, long in MONTH_NAMES.items()}
WEEKDAYS = word_table(
    "mon Monday,tue Tuesday,tues Tuesday,wed Wednesday,weds Wednesday,thu Thursday,thur Thursday,thurs Thursday,fri Friday,"
    "sat Saturday,sun Sunday"
)
DAYS_OR_WORDS = ("wed", "sat", "sun")
"""Days only before a comma or a number: "Sat., 5 May", but "Down he Sat. Then"."""
BEFORE_NUMBERS = word_table(
    "no number,nos numbers,nr number,vol volume,vols volumes,fig figure,figs figures,p page,pp pages,ch chapter,"
    "chap chapter,sec section,sect section,eq equation,apt apartment,ste suite,ext extension,ca circa,c circa,rm room,"
    "bldg building,hwy highway,rte route,rt route,max maximum,min minimum,approx approximately,est established,b born,"
    "d died,r reigned,fl floor,pop population,temp temperature,alt altitude,qty quantity,lvl level,lv level,ex exercise,q question,"
    "pt part,ep episode,art article,cl clause,par paragraph,para paragraph,tab table,tbl table,tbls tables,app appendix,iss issue,col column,"
    "tel telephone,ph phone,vs versus,v verse,vv verses,l line,ll lines,n note,bk book,yr year,rwy runway,hdg heading,op opus,avg average,"
    "ver version,ed edition,div division,dist district,exp experiment,gr grade,km kilometer,mi mile,wt weight,lat latitude,term terminal,cat category,eqs equations,chs chapters,sects sections,cols columns,refs references,ref reference,ps psalm,flt flight,pts parts,jan January,"
    "feb February,mar March,apr April,jun June,jul July,aug August,sep September,sept September,oct October,nov November,"
    "dec December,isa Isaiah,deut Deuteronomy,exod Exodus,lev Leviticus,prov Proverbs,eccl Ecclesiastes,jer Jeremiah,ezek Ezekiel,matt Matthew,rom Romans,heb Hebrews,"
    "sc scene,thm theorem,prop proposition,def definition,cor corollary,supp supplementary,reg regulation,sched schedule,dkt docket,mvt movement,alg algorithm,dep departs,arr arrives,plat platform"
)
"""Only before a number: "No. 5", but "No. I won't."."""
BARE_BEFORE_NUMBERS = frozenset(
    "lvl flt apt bldg hwy rte ste vol ext approx fig ch pp max min avg rm pt nos yr rwy hdg".split()
)
"""Abbreviations that are also written without a full stop before a number."""
ABBREVIATIONS = word_table(
    "vs versus,etc et cetera,s.t such that,rgds regards,pymt payment,pymts payments,stn station,mth month,mths months,pkt packet,pkts packets,wknd weekend,mtgs meetings,mgrs managers,pkgs packages,tkt ticket,tkts tickets,grps groups,pgs pages,sqn squadron,rgt regiment,nr near,sts stitches,lge large,e.g for example,i.e that is,approx approximately,jr junior,sr senior,inc incorporated,"
    "ltd limited,w.r.t with respect to,corp corporation,dept department,co company,cf compare,incl including,excl excluding,tel telephone,"
    "pkg package,appt appointment,a.m ay em,p.m pee em,a.k.a ay kay ay,p.a per annum,mfr manufacturer,max maximum,avg average,esp especially,misc miscellaneous,"
    "assn association,bros brothers,govt government,intl international,univ university,viz namely,mfg manufacturing,"
    "mgr manager,mgmt management,asst assistant,agg aggregate,natl national,svc service,svcs services,engr engineer,engrs engineers,pct percent,alc alcohol,attrib attributed,abbr abbreviated,abn airborne,apx approximately,bkgd background,bldgs buildings,cond condition,"
    "cont continued,ctr center,dpt department,educ education,establ established,freq frequency,hdqrs headquarters,hosp hospital,"
    "hrly hourly,illus illustrated,inst institute,mtn mountain,mtns mountains,nbr number,obs obsolete,pref preferred,prkg parking,"
    "priv private,qtrly quarterly,regd registered,reqd required,reqs requirements,suppl supplement,terr territory,transl translated,"
    "treas treasurer,twp township,usu usually,util utilities,vlg village,whse warehouse,wkly weekly,xlnt excellent,yrly yearly,amt amount,amts amounts,bdrm bedroom,bdrms bedrooms,rpt repeat,refs references,dir director,est established,et al and others,temp temperature,qty quantity,std standard,equip equipment,orig original,"
    "prev previous,elec electric,addr address,flr floor,rm room,acct account,ea each,btwn between,avail available,vit vitamin,mtg meeting,conf conference,pls please,msg message,mktg marketing,lg large,med medium,"
    "qtr quarter,qtrs quarters,mkt market,nos numbers,lat latitude,assoc associate,supt superintendent,wks weeks,wk week,mos months,sched schedule,"
    "attn attention,encl enclosure,recd received,hrs hours,hr hour,mins minutes,secs seconds,yrs years,yr year,bldg building,blvd boulevard,"
    "ave avenue,hwy highway,apt apartment,esq esquire,ext extension,lb pound,lbs pounds,oz ounces,tbsp tablespoon,tsp teaspoon"
)
MARKED_WORDS = word_table(
    "w/in within,w/e whatever,w/o without,w/out without,b/c because,n/a en ay,a/c ay see,s/he she or he,h/o history of,f/u follow up,"
    "r/o rule out,s/p status post,d/b/a dee bee ay,a/k/a ay kay ay,f/k/a eff kay ay,n/k/a en kay ay,tl;dr tee el dee are,"
    "cont'd continued,add'l additional,int'l international,gov't government,ass'n association,dep't department,req'd required,rec'd received,nat'l national,"
    "aff'd affirmed,rev'd reversed,vac'd vacated,remand'd remanded"
)
"""Short forms with a mark inside."""
COUNTIES = (
    "Antrim|Armagh|Carlow|Cavan|Clare|Cork|Derry|Donegal|Down|Dublin|Durham|Fermanagh|Galway|Kerry|Kildare|Kilkenny|Laois|Leitrim|Limerick|"
    "Londonderry|Longford|Louth|Mayo|Meath|Monaghan|Offaly|Roscommon|Sligo|Tipperary|Tyrone|Waterford|Westmeath|Wexford|Wicklow"
)
"""Counties after "Co."."""
BEFORE_NAMES = frozenset("acct asst assoc conf mktg intl univ govt dept supt".split())
"""Abbreviations with a capital before another word with a capital, as in "Mktg. Dept."."""
BARE_ABBREVIATIONS = tuple(
    word + ending
    for short in "dept govt misc incl excl appt acct attn orig prev approx avg qty asst natl intl equip".split()
    for word, ending in ((short, ""), (short.capitalize(), ""))
)
"""Abbreviations that are no words, so that they are read without a full stop too: "the dept head"."""
NEVER_LAST = frozenset(
    ("s.t", "e.g", "i.e", "vs", "excl", "incl", "w.r.t", "cf", "viz", "attn", "pls", "btwn", "a.k.a")
)
"""Abbreviations after which the sentence continues."""
DOSES = word_table(
    "qam every morning,qpm every evening,qhs at bedtime,qd once daily,qod every other day,prn as needed,npo nothing by mouth"
)
KIN = word_table("s son,d daughter,dau daughter,bro brother,sis sister")
"""Before "of" and a name: "s. of Robt."."""
LAW = {
    "Fed. R. Civ. P.": "Federal Rule of Civil Procedure",
    "Fed. R. Crim. P.": "Federal Rule of Criminal Procedure",
    "Fed. R. Evid.": "Federal Rule of Evidence",
    "F. Supp.": "federal supplement",
    "S. Ct.": "Supreme Court",
    "L. Ed.": "lawyers' edition",
    "Cal. App.": "California appellate",
    "Exec. Order": "executive order",
}
"""Reporters and rules that courts quote, in citations."""
STATES = word_table(
    "Ala Alabama,Ariz Arizona,Ark Arkansas,Calif California,Colo Colorado,Conn Connecticut,Del Delaware,Fla Florida,Ga Georgia,Ill Illinois,"
    "Ind Indiana,Kan Kansas,Ky Kentucky,La Louisiana,Mass Massachusetts,Md Maryland,Mich Michigan,Minn Minnesota,Miss Mississippi,Mo Missouri,"
    "Mont Montana,Neb Nebraska,Nev Nevada,Okla Oklahoma,Ore Oregon,Pa Pennsylvania,Tenn Tennessee,Tex Texas,Va Virginia,Vt Vermont,"
    "Wash Washington,Wis Wisconsin,W.Va West Virginia,Wyo Wyoming,Ont Ontario,Que Quebec"
)
"""Abbreviated states, after a comma: "Springfield, Ill."."""
BEFORE_NUMERALS = frozenset(
    "chapter part volume book act scene section phase type class title article appendix level stage war bowl episode vol "
    "figure table canto psalm movement wrestlemania superbowl unit grade group division corps mark model apollo".split()
)
BEFORE_LONG_NUMERALS = frozenset("option page line step category question item clause section".split())
"""Words before numerals of two letters and more: "option IV", but "option X"."""
RULERS = frozenset(
    "louis henry edward george william charles james richard john paul pius benedict elizabeth philip francis napoleon ivan "
    "peter leo gregory clement innocent alexander frederick nicholas catherine mary gustav christian ferdinand carlos juan "
    "pedro robert david malcolm otto rudolf wilhelm franz joseph leopold albert urban julius sixtus boniface ramses ptolemy "
    "darius xerxes cyrus constantine justinian theodosius harald olaf haakon rama margaret felipe abdullah hussein "
    "ludwig alfonso umberto victor emmanuel maximilian theodore sigismund stanislaus ladislaus casimir matthias adrian celestine "
    "honorius callixtus stephen basil manuel alexius mehmed murad selim suleiman antiochus artaxerxes pepin conrad lothar hassan mohammed "
    "thomas michael joseph samuel walter arthur harold martin andrew daniel steven stephen patrick anthony".split()
)
CROWNS = frozenset("king queen pope emperor empress tsar czar kaiser prince sultan".split())
WITHOUT_VOWELS = frozenset(
    "ng mr mrs ms dr st ft mt jr sr lt sgt cpl pvt ltd rd ln pl ct bldg blvd hm hmm hmmm mm mmm sh shh shhh psst pssht pst brr brrr tsk grr grrr zz zzz nth pfft th st nd rd ll ssh cwm crwth".split()
)
"""Words without a vowel that are read as they are. Others are letters: fps, html."""
LETTER_NOUNS = frozenset(
    "vitamin plan grade type class section group team option exhibit appendix hepatitis influenza series block column point "
    "terminal gate letter question platform side model string key an hall wing building zone step schedule annex".split()
)
"""Words before a capital A that name it: "vitamin A"."""
LOCATORS = LETTER_NOUNS | frozenset(
    "seat exit lane terminal row apt bldg ste rm apartment room suite flat unit figure fig table form page number no bus route highway line floor "
    "chapter part lesson episode track day week item task test season volume article exhibit studio lot bay dock pier track rwy runway".split()
)
"""Words before a number and a letter that name a place: "seat 12A" has no amperes."""

DIRECTIONS = word_table(
    "n north,s south,e east,w west,nw northwest,ne northeast,sw southwest,se southeast,nnw north northwest,nne north northeast,ssw south southwest,"
    "sse south southeast,wnw west northwest,wsw west southwest,ene east northeast,ese east southeast"
)
"""Abbreviations in an address: "5th Ave. NW", "12 N. Main St."."""
SERIES = frozenset(
    "fantasy gta quest fighter os iphone rocky saw civ civilization elder scrolls episode wars wrestlemania bowl".split()
)
"""Words before a V or X that is a number: "Final Fantasy X"."""
SPELLED_NAMES = word_table(
    "GmbH jee em bee aitch,HbA1c aitch bee ay one see,pH pee aitch,pOH pee oh aitch,pKa pee kay ay,YoY year over year,QoQ quarter over quarter,MoM month over month,WoW wow,NOx nocks,SpO2 ess pee oh two,LLaMA llama,BofA bee of ay,"
    "SaaS sass,PaaS pass,IaaS eye ass,FaaS fass,VoIP voyp,LaTeX lay tech,HeLa hee la,EtOH ethanol,MeOH methanol,arXiv archive,PMHx past medical history,LiPo lye poe,LiDAR lie dar,eV ee vee,"
    "VMware vee em ware,PgUp page up,PgDn page down,PrtSc print screen,NaN nan,NoSQL no ess cue el,Utd United"
)
"""Words of large and small letters with a reading of their own."""
CHAT = word_table(
    "thx thanks,thnx thanks,pls please,plz please,ppl people,tmrw tomorrow,tmw tomorrow,txt text,msg message,msgs messages,"
    "bday birthday,ur your,idc eye dee see,afk ay eff kay,btwn between,l8r later,gr8 great,b4 before,m8 mate,2nite tonight,2day today,2moro tomorrow,2morrow tomorrow,w8 wait,"
    "str8 straight,idk eye dee kay,omg oh em jee,imo eye em oh,imho eye em aitch oh,ttyl tee tee why el,"
    "wyd double-you why dee,iirc eye eye are see,afaik ay eff ay eye kay,irl eye are el,aka ay kay ay,fyi eff why eye,"
    "ty thank you,yw you're welcome,tysm thank you so much,tyvm thank you very much,ilysm I love you so much,nvm never mind,"
    "rn right now,hbu how about you,wbu what about you,wdym what do you mean,hmu hit me up,gtg got to go,omw on my way,lmk let me know,gn good night,ok okay,g2g got to go,"
    "ily eye el why,icymi eye see why em eye,api ay pee eye,apis ay pee eyes,cpu see pee you,cpus see pee yous,gpu jee pee you,gpus jee pee yous,url you are el,"
    "urls you are els,usb you ess bee,doi dee oh eye,diy dee eye why,faq eff ay cue,asap ay ess ay pee"
)
"""Short forms of chats and forums, in small letters or with a capital at the start."""
SMALL_CHAT = frozenset(("ur", "ty", "rn"))
"""Short forms of chat in small letters only; with a capital they are a name or a symbol."""
KEYS = word_table(
    "ctrl control,cmd command,del delete,esc escape,fn function,ins insert,opt option,alt alt,shift shift"
)
"""Names on keys, before a plus, a dash or another key."""
FUSED_NAMES = frozenset(
    """youtube linkedin github gitlab tiktok paypal whatsapp javascript typescript powerpoint macbook facebook playstation
    wordpress fedex airbnb airpods onedrive sharepoint dropbox doordash instacart snapchat livejournal mastercard photoshop
    coffeescript bluetooth""".split()
)
"""Names with a capital inside that are one word."""
COMMANDS = frozenset(
    """git npm npx yarn pip pip3 docker podman ls rm cp mv cd cat sudo apt curl wget ssh scp python python3 make cmake grep sed tar
    cargo rustc conda brew chmod chown kubectl bash sh zsh node ffmpeg llasa systemctl gcc clang java javac ps kill mkdir find
    xargs awk tail head vim type command""".split()
)
"""Words that show that "-m", "-name" and "--all" after them are options of a command."""
NEAR_OPTIONS = frozenset("run use with flag flags option options argument switch pass add".split())
"""Words that show it for "-m" and "--all" only."""
ELEMENTS = (
    "He|Li|Be|Ne|Na|Mg|Al|Si|Cl|Ar|Ca|Sc|Ti|Cr|Mn|Fe|Co|Ni|Cu|Zn|Ga|Ge|As|Se|Br|Kr|Rb|Sr|Zr|Nb|Mo|Ru|Rh|Pd|Ag|Cd|In|Sn|Sb|Te|"
    "Xe|Cs|Ba|La|Ce|Nd|Gd|Hf|Ta|Re|Os|Ir|Pt|Au|Hg|Tl|Pb|Bi|Ra|Th|Pu|H|B|C|N|O|F|P|S|K|V|Y|I|W|U"
)
"""The symbols of chemical elements, as alternatives of a pattern."""

CURRENCIES: dict[str, tuple[str, ...]] = {
    sign: tuple(names.split("/"))
    for sign, names in word_table(
        "$ dollar/dollars/cent/cents,€ euro/euros/cent/cents,£ pound/pounds/penny/pence,"
        "¥ yen/yen/sen/sen,₹ rupee/rupees/paisa/paise,₩ won/won/jeon/jeon,"
        "₽ ruble/rubles/kopeck/kopecks,₺ lira/lira/kurus/kurus,₪ shekel/shekels/agora/agorot,"
        "₱ peso/pesos/centavo/centavos,₫ dong/dong/dong/dong,₦ naira/naira/kobo/kobo,"
        "₵ cedi/cedis/pesewa/pesewas,₡ colon/colones/centimo/centimos,₴ hryvnia/hryvnias/kopeck/kopecks,฿ baht/baht/satang/satang,"
        "₿ bitcoin/bitcoins/satoshi/satoshis"
    ).items()
}
"""One and many of a unit of money, and of its small one."""
DOLLARS = word_table(
    "US ,GH ,USD ,AUD Australian,CAD Canadian,NZD New Zealand,SGD Singapore,HKD Hong Kong,A Australian,AU Australian,C Canadian,CA Canadian,NZ New Zealand,HK Hong Kong,S Singapore,R Brazilian,MX Mexican,NT Taiwan"
)
"""The country of the letters before a dollar sign; US needs no word."""
ROUND_NUMBERS = dict(enumerate("hundreds,thousands,tens of thousands,hundreds of thousands,millions".split(","), 2))
"""Zeros of a number that stands for many: "1,000s of people"."""
SCALES = word_table("T trillion,mm million,mn million,k thousand,m million,b billion,bn billion,t trillion,tn trillion")


def _units(text: str) -> dict[str, tuple[str, str]]:
    """ "km kilometer,ft foot/feet" -> one and many: {"km": ("kilometer", "kilometers"), "ft": ("foot", "feet")}."""
    units = {}
    for short, name in word_table(text).items():
        one, _, many = name.partition("/")
        units[short] = (one, many or one + "s")
    return units


MONEY_CODES = {
    **_units(
        "USD dollar,EUR euro,GBP pound,CHF Swiss franc,JPY yen/yen,CNY yuan/yuan,RMB yuan/yuan,INR rupee,CAD Canadian dollar,"
        "AUD Australian dollar,NZD New Zealand dollar,SGD Singapore dollar,GHS cedi/cedis,PHP Philippine peso,SAR Saudi riyal,TRY lira/lira,HKD Hong Kong dollar,TWD Taiwan dollar,"
        "SEK Swedish krona/Swedish kronor,NOK Norwegian krone/Norwegian kroner,DKK Danish krone/Danish kroner,"
        "PLN zloty/zlotys,CZK Czech koruna,HUF forint,RUB ruble,RON Romanian leu/Romanian lei,BRL real/reais,MXN Mexican peso,"
        "ZAR rand/rand,KRW won/won,THB baht/baht,IDR rupiah/rupiah,MYR ringgit/ringgit,VND dong/dong,AED dirham,"
        "ILS shekel,EGP Egyptian pound,NGN naira/naira,KES Kenyan shilling,UAH hryvnia,PKR Pakistani rupee,ARS Argentine peso,"
        "CLP Chilean peso,COP Colombian peso,BTC bitcoin,ETH ether/ether,kr krone/kroner,Kr krone/kroner"
    )
}
"""Codes before or after an amount: "CHF 50", "20 PLN"."""
UNITS = _units(
    "km/h kilometer an hour/kilometers an hour,m/s meter a second/meters a second,mph mile an hour/miles an hour,"
    "mpg mile a gallon/miles a gallon,rpm revolution a minute/revolutions a minute,bpm beat a minute/beats a minute,"
    "kph kilometer an hour/kilometers an hour,mbps megabit a second/megabits a second,gbps gigabit a second/gigabits a second,"
    "kbps kilobit a second/kilobits a second,fps frame a second/frames a second,dpi dot an inch/dots an inch,"
    "ppi pixel an inch/pixels an inch,ppm part per million/parts per million,pct percent/percent,"
    "ft foot/feet,lbs pound,hz hertz/hertz,khz kilohertz/kilohertz,mhz megahertz/megahertz,ghz gigahertz/gigahertz,"
    "doz dozen/dozen,hp horsepower/horsepower,mi mile,h hour,km kilometer,kms kilometer,kgs kilogram,cm centimeter,"
    "mm millimeter,m meter,kg kilogram,mg milligram,g gram,lb pound,oz ounce,l liter,ml milliliter,dl deciliter,"
    "cl centiliter,ms millisecond,μs microsecond,ns nanosecond,μm micrometer,nm nanometer,μg microgram,mcg microgram,"
    "pb petabyte,tb terabyte,gb gigabyte,mb megabyte,kb kilobyte,sec second,secs second,min minute,mins minute,hr hour,"
    "hrs hour,wk week,wks week,mo month,mos month,yr year,yrs year,tsp teaspoon,tbsp tablespoon,kw kilowatt,"
    "kwh kilowatt-hour,kib kibibyte,mib mebibyte,gib gibibyte,tib tebibyte,mw megawatt,gw gigawatt,mwh megawatt-hour,gwh gigawatt-hour,wh watt hour,db decibel,"
    "kcal calorie,usd dollar,eur euro,gbp pound,cad Canadian dollar,aud Australian dollar,"
    "jpy yen/yen,chf Swiss franc,inr rupee,gal gallon,gals gallon,qt quart,qts quart,pt pint,pts point,yd yard,yds yard,"
    "pkg package,mah milliamp hour,kj kilojoule,kpa kilopascal,hpa hectopascal,mpa megapascal,kv kilovolt,mv millivolt,μl microliter,μv microvolt,μa microamp,"
    "mmol millimole,μmol micromole,nmol nanomole,gpm gallon a minute/gallons a minute,cal calorie,bhp brake horsepower/brake horsepower,"
    "ma milliamp,psi pound a square inch/pounds a square inch,btu British thermal unit,px pixel,mp megapixel,bps basis point,"
    "mmhg millimeter of mercury/millimeters of mercury,lm lumen,ga gauge/gauge,ha hectare,cc cubic centimeter,μf microfarad,nf nanofarad,pf picofarad,"
    "mol mole/moles,atm atmosphere,ng nanogram,pg picogram,tbs tablespoon,mbit megabit,gbit gigabit,kn knot,kt knot,kts knot,nmi nautical mile,hpa hectopascal,deg degree,sqft square foot/square feet,sqm square meter,sqkm square kilometer,reb rebound,ast assist,spd speed/speed,sf square foot/square feet,ac acre,pk pack,btl bottle,tbsps tablespoon,tblsp tablespoon,tsps teaspoon"
)
"""Units by their small letters. `CASED_UNITS` and the measure class decide which capitals count."""
CASED_UNITS = _units(
    "W watt,V volt,A amp,Pa pascal,Ah amp hour,Wh watt hour,N newton,J joule,L liter,K kelvin/kelvins,Ω ohm,kΩ kiloohm,MΩ megaohm,GΩ gigaohm,mΩ milliohm,eV electron volt,"
    "Ma million years ago/million years ago,Ga billion years ago/billion years ago,ka thousand years ago/thousand years ago,"
    "kya thousand years ago/thousand years ago,mya million years ago/million years ago,Gyr billion years/billion years,"
    "Myr million years/million years,ly light year,Mly million light years/million light years,Gly billion light years/billion light years,"
    "kpc kiloparsec,Mpc megaparsec,AU astronomical unit,NM nautical mile,keV kiloelectron volt,MeV megaelectron volt,GeV gigaelectron volt,mM millimolar/millimolar,μM micromolar/micromolar,"
    "nM nanomolar/nanomolar,lx lux/lux,Bq becquerel,mPa millipascal,mEq milliequivalent,rad radian,Nm newton meter,mW milliwatt,kN kilonewton,mSv millisievert,μSv microsievert,inHg inch of mercury/inches of mercury,kWp kilowatt peak/kilowatts peak,Sv sievert"
)
"""Units that are only read as such in this spelling."""
SIGN_UNITS = _units("″ inch/inches,¢ cent,in inch/inches,c cup")
"""The letters only with a full stop inside a sentence ("2 c. flour"): elsewhere they are words."""
UNIT_WORDS = tuple(
    "mmHg kWh MWh GWh mAh kHz MHz GHz Hz hPa kPa MPa dB kV kW GW Mbps Gbps kbps km kg cm mph kph rpm mpg dpi psi lbs hrs pts yds px".split()
)
"""Units that are read as such without an amount too: "in kWh"."""
UNIT_KINDS = {"sq": "square ", "cu": "cubic ", "fl": "fluid "}
SHORT_UNITS_IN_CAPITALS = frozenset(
    "HR HRS MS SEC SECS DB MO MOS MI FT ML NM HP PT PTS QT QTS GA HA LM CAL GAL GALS YD YDS WK WKS MA AC SF AST REB PK SPD".split()
)
"""4 HR managers and 16 SEC schools have no units, unless the next word is in capitals too ("6 FT TALL") or none follows."""
SHORT_EACH = word_table(
    "sec second,min minute,hr hour,wk week,mo month,yr year,lb pound,kg kilogram,gal gallon,oz ounce,s second,h hour,mol mole,"
    "l liter,dl deciliter,m meter,km kilometer,g gram,cm centimeter,mm millimeter,ml milliliter,day day,d day,bbl barrel,btl bottle,bu bushel,sqft square foot"
)
SHORT_PERIODS = word_table("q quarter,m month,w week,y year")
"""The letters of "y/y" and "q/q"."""
EACH = frozenset(
    [
        *SHORT_EACH,
        *"second minute hour night week month year person head item mile gallon liter dl ml "
        "share unit user seat page side serving dose session visit game ticket barrel ton tonne acre child adult room piece box bottle bag group class "
        "family household team patient student customer order call click query request token image sample step epoch batch node core".split(),
    ]
)
"""The words that may follow a slash after an amount: "$5/hr", "60 miles/hour"."""
SYMBOLS = word_table(
    "!= is not,< less than,> greater than,≠ is not,>= at least,≥ at least,<= at most,≤ at most,== equals,± plus or minus,≈ about,√ square root of,∛ cube root of,∅ the empty set,"
    "∑ sum,∏ product,∫ integral,∂ partial,∇ del,∆ delta,∀ for all,∃ there exists,∈ in,∉ not in,∪ union,∩ intersection,⊂ subset of,⊆ subset of,∝ proportional to,∠ angle,⇒ implies,⇔ if and only if,· times,¢ cents,&& and,⌘ command,⌥ option,⇧ shift,⌃ control,& and,@ at,% percent,‰ per mille,+ plus,= equals,# number,° degrees,/ slash,⁄ over,× times,÷ divided by,"
    "$ dollars,€ euros,£ pounds,¥ yen,₹ rupees,₩ won,₽ rubles,₺ lira,₪ shekels,₱ pesos,₿ bitcoin,§§ sections,§ section,¶¶ paragraphs,¶ paragraph,∥ parallel to,⊥ perpendicular to,≅ congruent to,△ triangle,∴ therefore,∵ because,∞ infinity,Ω ohms,№ number"
)
"""Signs that are said by a name wherever no class has read them."""
