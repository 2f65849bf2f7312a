// A platform of 40 m x 8 m. A train at its north side has four doors of 1.4 m; two ways lead out in
// the south, 1.2 m and 1.6 m wide, each through a passage. Metres.
// Make the mesh with:  gmsh -2 station.geo -o station.msh
SetFactory("OpenCASCADE");
length = 40;  width = 8;  passage = 1;
west = 12;  west_width = 1.2;  east = 36;  east_width = 1.6;  // the ways out, from their middles
xs() = {5, 15, 25, 35};  door = 1.4;  // of the train
size = 0.8;  fine = 0.3;  // of cells: on the floor, at doors
e = 0.01;

Rectangle(1) = {0, 0, 0, length, width};
Rectangle(2) = {west - west_width / 2, -passage, 0, west_width, passage};
Rectangle(3) = {east - east_width / 2, -passage, 0, east_width, passage};
BooleanUnion{ Surface{1}; Delete; }{ Surface{2, 3}; Delete; }
doors() = {};
For k In {0 : 3}
  p = newp;
  Point(p) = {xs(k) - door / 2, width, 0};
  Point(p + 1) = {xs(k) + door / 2, width, 0};
  l = newl;
  Line(l) = {p, p + 1};
  doors() += {l};
EndFor
BooleanFragments{ Surface{:}; Delete; }{ Curve{doors()}; Delete; }
train() = {};
For k In {0 : 3}
  a = xs(k) - door / 2 - e;
  b = xs(k) + door / 2 + e;
  near() = Curve In BoundingBox {a, width - e, -e, b, width + e, e};
  train() += near();
EndFor
west() = Curve In BoundingBox {west - west_width, -passage - e, -e, west + west_width, e - passage, e};
east() = Curve In BoundingBox {east - east_width, -passage - e, -e, east + east_width, e - passage, e};
walls() = Curve{:};
walls() -= train();
walls() -= west();
walls() -= east();
Physical Surface("platform") = Surface{:};
Physical Curve("west exit") = west();
Physical Curve("east exit") = east();
Physical Curve("train") = train();
Physical Curve("walls") = walls();

Field[1] = Distance;
Field[1].CurvesList = {west(), east(), train()};
Field[1].Sampling = 40;
Field[2] = Threshold;
Field[2].InField = 1;
Field[2].SizeMin = fine;  Field[2].SizeMax = size;  Field[2].DistMin = 1.2;  Field[2].DistMax = 4;
Background Field = 2;
Mesh.MeshSizeExtendFromBoundary = 0;
Mesh.MeshSizeFromPoints = 0;
Mesh.MshFileVersion = 4.1;
